// Package signer is a client of the signer's gRPC API: recipes, and signatures over C2PA claims.
package signer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"example.com/byok-sign/signerpb"
)

var (
	validAddress = regexp.MustCompile(`^(?:unix:/.+|(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5})$`)
	validToken   = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]+$`) // RFC 6750, section 2.1
)

// Settings say where the signer is, how to trust it, and what to show it.
type Settings struct {
	// Address is host:port for TLS, or unix:/path for plain text on a socket of this machine.
	Address string
	// CAFile holds PEM certificates; empty for the system's.
	CAFile string
	// TokenFile holds a ServiceAccount token with audience byok-signer.
	TokenFile string
	// Timeout is for one call with all its attempts.
	Timeout time.Duration
}

// FromEnvironment reads the variables that the Python SDK reads too.
func FromEnvironment() (Settings, error) {
	settings := Settings{
		Address:   os.Getenv("BYOK_SIGNER_ADDRESS"),
		CAFile:    os.Getenv("BYOK_SIGNER_CA_FILE"),
		TokenFile: os.Getenv("BYOK_SIGNER_TOKEN_FILE"),
		Timeout:   30 * time.Second,
	}
	if settings.Address == "" {
		message := "BYOK_SIGNER_ADDRESS is not set: where is the signer?"
		return settings, &Error{Reason: "ConfigurationInvalid", Message: message}
	}
	if !validAddress.MatchString(settings.Address) {
		message := "BYOK_SIGNER_ADDRESS is neither host:port nor unix:/path"
		return settings, &Error{Reason: "ConfigurationInvalid", Message: message}
	}
	if settings.TokenFile == "" {
		settings.TokenFile = "/var/run/secrets/byok-signer/token"
	}
	return settings, nil
}

// Client keeps a channel: make one for a process. It is safe to use from several goroutines.
type Client struct {
	settings    Settings
	connections connections
}

// New connects at the first call.
func New(settings Settings) *Client {
	return &Client{settings: settings, connections: connections{settings: settings}}
}

// Close closes the channel once the calls under way have ended.
func (c *Client) Close() {
	c.connections.lock.Lock()
	defer c.connections.lock.Unlock()
	c.connections.retire()
}

// Recipe is what a manifest must meet, and the chain that will sign it; use it for a minute or so.
type Recipe struct {
	*signerpb.GetRecipeResponse
	algorithm algorithm
}

// Reference names the recipe as requests do.
func (r *Recipe) Reference() string {
	return fmt.Sprintf("%s/%s@%d", r.Namespace, r.Name, r.Version)
}

// Recipe asks for a recipe by [namespace/]name[@version]; an *Error if it is refused.
func (c *Client) Recipe(ctx context.Context, reference string) (*Recipe, error) {
	request := &signerpb.GetRecipeRequest{Recipe: reference}
	answer, err := call(ctx, c, request, signerpb.SignerClient.GetRecipe)
	if err != nil {
		return nil, err
	}
	known, ok := algorithms[answer.Algorithm]
	if !ok || len(answer.X5Chain) == 0 {
		message := fmt.Sprintf("%s: this client knows no algorithm %q", reference, answer.Algorithm)
		return nil, &Error{Reason: "RecipeInvalid", Message: message}
	}
	return &Recipe{answer, known}, nil
}

// Sign signs what a C2PA library wants signed, the COSE Sig_structure of a claim, under the recipe whose effectiveHash
// the manifest carries. On an *Error with the reason RecipeChanged or CertificateChanged get the recipe again and
// compose the manifest anew.
func (c *Client) Sign(
	ctx context.Context, recipe *Recipe, recipeHash string, toBeSigned []byte,
) (*signerpb.SignClaimResponse, error) {
	var answer *signerpb.SignClaimResponse
	var err error
	if digest := recipe.algorithm.digest(toBeSigned); digest != nil {
		answer, err = call(ctx, c, &signerpb.SignDigestRequest{
			Recipe: recipe.Reference(), ExpectedRecipeHash: recipeHash, Digest: digest, Evidence: toBeSigned,
		}, signerpb.SignerClient.SignDigest)
	} else {
		answer, err = call(ctx, c, &signerpb.SignClaimRequest{
			Recipe: recipe.Reference(), ExpectedRecipeHash: recipeHash, Claim: toBeSigned,
		}, signerpb.SignerClient.SignClaim)
	}
	if err != nil {
		return nil, err
	}
	if err := recipe.algorithm.verify(recipe.X5Chain[0], toBeSigned, answer.Signature); err != nil {
		return nil, &Error{Reason: "SigningFailed", Message: err.Error()}
	}
	return answer, nil
}

type method[Request, Answer any] func(
	signerpb.SignerClient, context.Context, Request, ...grpc.CallOption,
) (Answer, error)

// call makes attempts until one succeeds, waiting is of no use, or the time is over.
func call[Request, Answer any](
	ctx context.Context, c *Client, request Request, of method[Request, Answer],
) (Answer, error) {
	var none Answer
	ctx, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	renewed := false
	var last *Error
	for attempt := 0; ; {
		token, err := c.token()
		if err != nil {
			return none, err
		}
		answer, err := attemptOnce(ctx, c, token, request, of)
		if err == nil {
			return answer, nil
		}
		var failed *Error
		if !errors.As(err, &failed) {
			return none, err
		}
		// The kubelet may have rotated the token between the reading and the signer's looking at it.
		if !renewed && (failed.Reason == "TokenExpired" || failed.Reason == "TokenInvalid") {
			if present, err := c.token(); err == nil && present != token {
				renewed = true
				continue
			}
		}
		delay, again := failed.retryDelay(attempt, time.Until(deadline), rand.Float64())
		if !again {
			// That the last attempt had no time left says less than why there had to be one.
			if failed.Code == codes.DeadlineExceeded && last != nil {
				failed = last
			}
			return none, failed
		}
		last = failed
		attempt++
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return none, failed
		}
	}
}

func attemptOnce[Request, Answer any](
	ctx context.Context, c *Client, token string, request Request, of method[Request, Answer],
) (Answer, error) {
	var none Answer
	used, done, err := c.connections.use()
	if err != nil {
		return none, err
	}
	defer done()
	var trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	answer, err := of(used.stub, ctx, request, grpc.Trailer(&trailer))
	if err != nil {
		return none, errorOf(err, strings.Join(trailer.Get("x-request-id"), ""))
	}
	return answer, nil
}

// token reads the token as its file has it now: the kubelet rotates it under a running job.
func (c *Client) token() (string, error) {
	content, err := read(c.settings.TokenFile)
	if err != nil {
		return "", &Error{Reason: "TokenMissing", Message: err.Error()}
	}
	token := strings.TrimSpace(string(content))
	if !validToken.MatchString(token) {
		return "", &Error{Reason: "TokenInvalid", Message: c.settings.TokenFile + " does not hold a token"}
	}
	return token, nil
}
