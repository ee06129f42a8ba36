package signer

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver/dns"

	"example.com/byok-sign/signerpb"
)

func init() {
	// For the whole process: a replica that was replaced has another address under the same name, and gRPC's own
	// value is as long as our deadline.
	dns.SetMinResolutionInterval(time.Second)
}

// connection trusts the certificates that it was made with for good.
type connection struct {
	trusted []byte
	channel *grpc.ClientConn
	stub    signerpb.SignerClient
	calls   sync.WaitGroup
}

// connections has a new one made once the CA file holds other certificates; calls under way end on the old one.
type connections struct {
	settings Settings
	lock     sync.Mutex
	present  *connection
}

// use gives the connection for one attempt, and what to call at its end.
func (c *connections) use() (*connection, func(), error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	var trusted []byte
	if c.settings.CAFile != "" {
		content, err := read(c.settings.CAFile)
		if err != nil {
			return nil, nil, &Error{Reason: "ConfigurationInvalid", Message: err.Error()}
		}
		trusted = content
	}
	if c.present == nil || !bytes.Equal(trusted, c.present.trusted) {
		made, err := connect(c.settings, trusted)
		if err != nil {
			return nil, nil, &Error{Reason: "ConfigurationInvalid", Message: err.Error()}
		}
		c.retire()
		c.present = made
	}
	used := c.present
	used.calls.Add(1)
	return used, used.calls.Done, nil
}

// retire closes the present connection when its calls have ended; closing would end them.
func (c *connections) retire() {
	if old := c.present; old != nil {
		go func() {
			old.calls.Wait()
			old.channel.Close()
		}()
	}
	c.present = nil
}

const fileLimit = 1 << 20

// read reads a small file.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, fileLimit+1))
	if err == nil && len(content) > fileLimit {
		err = fmt.Errorf("%s is longer than %d bytes", path, fileLimit)
	}
	return content, err
}

func connect(settings Settings, trusted []byte) (*connection, error) {
	secured := insecure.NewCredentials()
	if !strings.HasPrefix(settings.Address, "unix:") {
		// Without certificates of our own, those of the system.
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if trusted != nil {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(trusted) {
				return nil, fmt.Errorf("%s holds no PEM certificate", settings.CAFile)
			}
		}
		secured = credentials.NewTLS(config)
	}
	delays := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}
	channel, err := grpc.NewClient(
		settings.Address,
		grpc.WithTransportCredentials(secured),
		// Over all replicas that the name has: what is tried again is then rather asked of another one.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: delays, MinConnectTimeout: 5 * time.Second}),
		// A node that died says nothing.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 8 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<20)),
	)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", settings.Address, err)
	}
	return &connection{trusted: trusted, channel: channel, stub: signerpb.NewSignerClient(channel)}, nil
}
