package beside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/pause"
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

// refusedDelay is after how long a hub that has refused a permit is asked for the same again.
const refusedDelay = time.Minute

// StartJoin is the wish to join a mesh before the agent serves, for containers. Permit is the path
// of a file.
type StartJoin struct {
	Mesh, Name, Permit string
	// Patient: a hub that refuses is asked again, at once if the file has another permit then, as one
	// that is a Secret of a cluster may; while no hub answers the file is read again, too. Else a hub
	// that refuses ends the agent.
	Patient bool
	Log     *slog.Logger

	mu  sync.Mutex
	err error // why it has not joined yet; guarded by mu
}

// Check returns an error unless all or nothing is given.
func (j *StartJoin) Check() error {
	if j.Mesh == "" && j.Name == "" && j.Permit == "" {
		return nil
	}
	if j.Mesh == "" || j.Name == "" || j.Permit == "" {
		return errors.New("--join, --join-as and --permit belong together")
	}
	return nil
}

// Err returns why the agent has not joined; nil if it has, or if there was no answer yet. It may be
// called from any goroutine.
func (j *StartJoin) Err() error {
	j.mu.Lock()
	err := j.err
	j.mu.Unlock()
	return err
}

// Run runs the agent and meanwhile joins, unless that was done at an earlier start. A hub that is
// not up yet is waited for; one that refuses ends the agent, unless it is patient.
func (j *StartJoin) Run(ctx context.Context, a Member) error {
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

func (j *StartJoin) join(ctx context.Context, a Member, permit []byte) error {
	for {
		err := a.Join(ctx, j.Mesh, j.Name, permit)
		j.mu.Lock()
		j.err = err
		j.mu.Unlock()
		absent := answer.CodeOf(err) == answer.Unavailable
		if err == nil || ctx.Err() != nil || !absent && !j.Patient {
			return err
		}
		j.Log.Warn("cannot join yet", "mesh", j.Mesh, "err", err)
		switch {
		case !absent:
			permit = j.renewed(ctx, permit)
		case pause.For(ctx, rand.N(joinDelay)+time.Second) && j.Patient:
			permit = j.read(permit) // the hub, or who redeems the token, may be gone for good
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// renewed returns another permit as soon as the file has one, or the refused one after some time.
func (j *StartJoin) renewed(ctx context.Context, refused []byte) []byte {
	for range refusedDelay / joinDelay {
		if !pause.For(ctx, joinDelay) {
			break
		}
		if fresh := j.read(refused); !bytes.Equal(fresh, refused) {
			return fresh
		}
	}
	return refused
}

// read returns the permit that the file has now, or the last one where it cannot be read, or has
// nothing more as standard input.
func (j *StartJoin) read(last []byte) []byte {
	if fresh, err := readPermit(j.Permit); err == nil && len(fresh) > 0 {
		return fresh
	}
	return last
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
