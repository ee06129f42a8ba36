// Command byok-sign signs a C2PA claim with a key that its owner never gives away; it speaks the subprocess signer
// protocol of c2patool.
package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example.com/byok-sign/signer"
)

const usage = `usage:
  byok-sign --recipe RECIPE --assertion           print the assertion that the manifest must carry
  byok-sign --recipe RECIPE --signer-info         print algorithm, certificates and reserve size, as c2patool asks for
  byok-sign --recipe RECIPE --recipe-hash HASH    sign the Sig_structure on standard input
  byok-sign --recipe RECIPE --recipe-hash HASH --claim    the same, for the claim's CBOR on standard input

RECIPE is [namespace/]name[@version]. HASH is effectiveHash of the assertion that the manifest carries. The signature
goes to standard output. --timeout SECONDS bounds each call with all its attempts; default 30.
BYOK_SIGNER_ADDRESS, BYOK_SIGNER_CA_FILE and BYOK_SIGNER_TOKEN_FILE say where the signer is and what to show it.
Exit status: 0 done, 1 refused, 2 wrong usage, 3 what may pass by itself.
`

// inputLimit is the largest Sig_structure that the signer takes, in bytes.
const inputLimit = 64 * 1024

type wanted struct {
	recipe, recipeHash     string
	assertion, info, claim bool
	timeout                float64
}

func main() {
	asked, ok := parse(os.Args[1:])
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, asked)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "byok-sign: %v\n", err)
	var refused *signer.Error
	if errors.As(err, &refused) && refused.Passes() {
		os.Exit(3)
	}
	os.Exit(1)
}

func parse(arguments []string) (wanted, bool) {
	var asked wanted
	flags := flag.NewFlagSet("byok-sign", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&asked.recipe, "recipe", "", "")
	flags.StringVar(&asked.recipeHash, "recipe-hash", "", "")
	flags.BoolVar(&asked.assertion, "assertion", false, "")
	flags.BoolVar(&asked.info, "signer-info", false, "")
	flags.BoolVar(&asked.claim, "claim", false, "")
	flags.Float64Var(&asked.timeout, "timeout", 30, "")
	// c2patool passes these on to the process that signs; the recipe has its own.
	for _, name := range []string{"alg", "reserve-size", "sign-cert"} {
		flags.String(name, "", "")
	}
	if err := flags.Parse(arguments); err != nil || flags.NArg() > 0 {
		return asked, false
	}
	task := asked.assertion || asked.info || asked.recipeHash != ""
	return asked, asked.recipe != "" && task && asked.timeout > 0
}

func run(ctx context.Context, asked wanted) error {
	settings, err := signer.FromEnvironment()
	if err != nil {
		return err
	}
	settings.Timeout = time.Duration(asked.timeout * float64(time.Second))
	client := signer.New(settings)
	defer client.Close()
	recipe, err := client.Recipe(ctx, asked.recipe)
	if err != nil {
		return err
	}
	switch {
	case asked.assertion:
		return show(assertionOf(recipe))
	case asked.info:
		return show(infoOf(recipe))
	default:
		return sign(ctx, client, recipe, asked)
	}
}

func sign(ctx context.Context, client *signer.Client, recipe *signer.Recipe, asked wanted) error {
	input, err := io.ReadAll(io.LimitReader(os.Stdin, inputLimit+1))
	if err != nil {
		return err
	}
	if len(input) > inputLimit {
		return &signer.Error{
			Reason: "ClaimRefused", Message: fmt.Sprintf("more than %d bytes on standard input", inputLimit),
		}
	}
	if asked.claim {
		input = recipe.SigStructure(input)
	}
	// The hash that the manifest carries, not the present one: the signer refuses if the recipe has changed since.
	answer, err := client.Sign(ctx, recipe, asked.recipeHash, input)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(answer.Signature)
	return err
}

func show(document any) error {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

func assertionOf(recipe *signer.Recipe) any {
	return map[string]any{
		"label":   "dev.byok.recipe",
		"created": true,
		"data": map[string]any{
			"namespace":     recipe.Namespace,
			"name":          recipe.Name,
			"version":       recipe.Version,
			"effectiveHash": recipe.EffectiveHash,
		},
	}
}

func infoOf(recipe *signer.Recipe) any {
	var chain strings.Builder
	for _, der := range recipe.X5Chain {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	info := map[string]any{
		"alg":          strings.ToLower(recipe.Algorithm),
		"sign_cert":    chain.String(),
		"reserve_size": recipe.ReserveSize,
	}
	if recipe.TimestampUrl != "" {
		info["tsa_url"] = recipe.TimestampUrl
	}
	return info
}
