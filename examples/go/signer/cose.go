package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
)

// algorithm is a COSE algorithm number (RFC 9053, section 2; RFC 8230, section 2) and its hash; Ed25519 has none, as it
// signs the message itself.
type algorithm struct {
	cose int
	hash crypto.Hash
}

var algorithms = map[string]algorithm{
	"ES256":   {-7, crypto.SHA256},
	"ES384":   {-35, crypto.SHA384},
	"ES512":   {-36, crypto.SHA512},
	"PS256":   {-37, crypto.SHA256},
	"PS384":   {-38, crypto.SHA384},
	"PS512":   {-39, crypto.SHA512},
	"Ed25519": {-8, 0},
}

// digest is what SignDigest takes, nil for Ed25519, which SignClaim signs.
func (a algorithm) digest(toBeSigned []byte) []byte {
	if a.hash == 0 {
		return nil
	}
	hash := a.hash.New()
	hash.Write(toBeSigned)
	return hash.Sum(nil)
}

// verify says whether the leaf certificate's key made a signature, in the form that COSE carries: IEEE P1363 for ECDSA.
func (a algorithm) verify(leaf, toBeSigned, signature []byte) error {
	certificate, err := x509.ParseCertificate(leaf)
	if err != nil {
		return fmt.Errorf("the chain's first certificate: %w", err)
	}
	digest := a.digest(toBeSigned)
	valid := false
	switch key := certificate.PublicKey.(type) {
	case *ecdsa.PublicKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		if len(signature) == 2*size && digest != nil {
			r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
			valid = ecdsa.Verify(key, digest, r, s)
		}
	case *rsa.PublicKey:
		// The salt is as long as the digest (RFC 8230, section 2).
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		valid = digest != nil && rsa.VerifyPSS(key, a.hash, digest, signature, options) == nil
	case ed25519.PublicKey:
		valid = ed25519.Verify(key, toBeSigned, signature)
	}
	if !valid {
		return fmt.Errorf("no signature by the key of %s", certificate.Subject)
	}
	return nil
}

// Major types of CBOR (RFC 8949, section 3.1).
const (
	unsigned = iota
	negative
	byteString
	textString
	array
	mapping
)

// SigStructure makes the Sig_structure (RFC 9052, section 4.4) of a claim, for libraries that hand out the claim's CBOR
// alone: ["Signature1", protected, an empty byte string, claim], where protected is {1: alg, 33: x5chain} (RFC 9360,
// section 2).
func (r *Recipe) SigStructure(claim []byte) []byte {
	header := head(nil, mapping, 2)
	header = head(header, unsigned, 1)
	header = head(header, negative, -1-r.algorithm.cose)
	header = head(header, unsigned, 33)
	// One certificate alone stands there as a byte string, not as an array of one.
	if len(r.X5Chain) != 1 {
		header = head(header, array, len(r.X5Chain))
	}
	for _, certificate := range r.X5Chain {
		header = append(head(header, byteString, len(certificate)), certificate...)
	}
	const context = "Signature1"
	message := head(nil, array, 4)
	message = append(head(message, textString, len(context)), context...)
	message = append(head(message, byteString, len(header)), header...)
	message = head(message, byteString, 0)
	return append(head(message, byteString, len(claim)), claim...)
}

// head appends a data item's head with its argument in the shortest form (RFC 8949, section 4.2.1).
func head(to []byte, major byte, argument int) []byte {
	kind := major << 5
	switch {
	case argument < 24:
		return append(to, kind|byte(argument))
	case argument < 1<<8:
		return append(to, kind|24, byte(argument))
	case argument < 1<<16:
		return binary.BigEndian.AppendUint16(append(to, kind|25), uint16(argument))
	default:
		return binary.BigEndian.AppendUint32(append(to, kind|26), uint32(argument))
	}
}
