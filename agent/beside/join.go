package beside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"ztm/tunnel/answer"
)

// maxPermit bounds what is read of a permit, in bytes.
const maxPermit = 8 << 20

// joinDelay is how long a hub that is not there is left alone: a restarted one has everyone back
// soon.
const joinDelay = 4 * time.Second

// Member is an agent that can become a member of a mesh.
type Member interface {
	Run(ctx context.Context) error
	Join(ctx context.Context, mesh, endpoint string, permit []byte) error
	Joined(mesh string) bool
	Close() error
}

// StartJoin is the wish to join a mesh before the agent serves, for containers. Permit is the path
// of a file.
type StartJoin struct {
	Mesh, Name, Permit string
	Log                *slog.Logger
}

// Check returns an error unless all or nothing is given.
func (j StartJoin) Check() error {
	if j.Mesh == "" && j.Name == "" && j.Permit == "" {
		return nil
	}
	if j.Mesh == "" || j.Name == "" || j.Permit == "" {
		return errors.New("--join, --join-as and --permit belong together")
	}
	return nil
}

// Run runs the agent and meanwhile joins, unless that was done at an earlier start. A hub that is
// not up yet is waited for; a hub that refuses ends the agent.
func (j StartJoin) Run(ctx context.Context, a Member) error {
	if j.Mesh == "" || a.Joined(j.Mesh) {
		return a.Run(ctx)
	}
	permit, err := readPermit(j.Permit)
	if err != nil {
		return errors.Join(err, a.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	joined := make(chan error, 1)
	go func() { // ends with ctx; awaited below
		err := j.join(ctx, a, permit)
		if err != nil {
			cancel(err)
		}
		joined <- err
	}()
	err = a.Run(ctx)
	cancel(nil)
	if jerr := <-joined; jerr != nil && !errors.Is(jerr, context.Canceled) {
		return jerr
	}
	return err
}

func (j StartJoin) join(ctx context.Context, a Member, permit []byte) error {
	for {
		err := a.Join(ctx, j.Mesh, j.Name, permit)
		if answer.CodeOf(err) != answer.Unavailable {
			return err
		}
		j.Log.Warn("cannot join yet", "mesh", j.Mesh, "err", err)
		timer := time.NewTimer(rand.N(joinDelay) + time.Second)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func readPermit(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxPermit))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("permit: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPermit))
}
