package process

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ztm/tunnel/identity"
)

// Main is a script: it runs the command with the arguments of this process until that returns or the process is interrupted or, as
// by timeout(1), asked to end, and returns the exit status. An error is written, and makes it 1.
func Main(script string, command func(ctx context.Context, args []string) error) (status int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", script, err)
		return 1
	}
	return 0
}

// InScratch calls f with a directory, which is removed afterwards, and with the program that [Ztm] finds or builds in it.
func InScratch(ctx context.Context, script, binary string, f func(dir, ztm string) error) error {
	dir, err := os.MkdirTemp("", "ztm-"+script+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ztm, err := Ztm(ctx, binary, dir)
	if err != nil {
		return err
	}
	return f(dir, ztm)
}

// WriteJSON writes what was measured to a file; "" is none.
func WriteJSON(file string, v any) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// Identity returns the public key of an agent that is starting. say runs its command "identity" and returns the output.
func Identity(ctx context.Context, name string, timeout time.Duration, say func() ([]byte, error)) (key ed25519.PublicKey, err error) {
	err = Until(ctx, "the identity of "+name, timeout, func() error {
		text, err := say()
		if err == nil {
			key, err = identity.ParsePublicKey(text)
		}
		return err
	})
	return key, err
}
