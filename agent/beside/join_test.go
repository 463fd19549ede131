package beside

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/answer"
)

// joiner is an agent whose hub takes one permit.
type joiner struct {
	good string
	gone bool // nobody answers for the others

	mu    sync.Mutex
	in    bool // guarded by mu
	asked int  // guarded by mu
}

func (j *joiner) Run(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
func (j *joiner) Close() error                  { return nil }

func (j *joiner) Join(_ context.Context, _, _ string, permit []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked++
	if string(permit) != j.good && j.gone {
		return answer.Errorf(answer.Unavailable, "no answer")
	}
	if string(permit) != j.good {
		return answer.Errorf(answer.Denied, "join token expired")
	}
	j.in = true
	return nil
}

func (j *joiner) Joined(string) bool { j.mu.Lock(); defer j.mu.Unlock(); return j.in }

func (j *joiner) times() int { j.mu.Lock(); defer j.mu.Unlock(); return j.asked }

func permitFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "permit")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A pod that would end instead would be started again and again, and say why in a log alone.
func TestAPatientAgentJoinsOnceItsPermitIsReplaced(t *testing.T) {
	path := permitFile(t, "old")
	synctest.Test(t, func(t *testing.T) {
		a := &joiner{good: "new"}
		j := &StartJoin{Mesh: "demo", Name: "ep", Permit: path, Patient: true, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- j.Run(ctx, a) }()
		<-time.After(10 * time.Minute)
		if err := j.Err(); err == nil || !strings.Contains(err.Error(), "join token expired") {
			t.Errorf("it says %v", err)
		}
		if n := a.times(); n < 2 || n > 15 {
			t.Errorf("a hub that refuses was asked %d times in ten minutes", n)
		}
		if err := os.WriteFile(path, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * joinDelay)
		if err := j.Err(); err != nil || !a.Joined("demo") {
			t.Errorf("with a new permit: %v", err)
		}
		cancel()
		<-ended
	})
}

// The hub of a permit, or the endpoint that redeems it, may never come back.
func TestAPatientAgentTakesAnotherPermitWhileNobodyAnswers(t *testing.T) {
	path := permitFile(t, "old")
	synctest.Test(t, func(t *testing.T) {
		a := &joiner{good: "new", gone: true}
		j := &StartJoin{Mesh: "demo", Name: "ep", Permit: path, Patient: true, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- j.Run(ctx, a) }()
		<-time.After(time.Minute)
		for _, text := range []string{"", "new"} { // a file that is just being written is no permit
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * (joinDelay + time.Second))
		}
		if err := j.Err(); err != nil || !a.Joined("demo") {
			t.Errorf("with a new permit: %v", err)
		}
		cancel()
		<-ended
	})
}

func TestARefusalEndsAnAgentThatIsNotPatient(t *testing.T) {
	path := permitFile(t, "old")
	synctest.Test(t, func(t *testing.T) {
		j := &StartJoin{Mesh: "demo", Name: "ep", Permit: path, Log: slog.New(slog.DiscardHandler)}
		if err := j.Run(t.Context(), &joiner{good: "new"}); answer.CodeOf(err) != answer.Denied {
			t.Errorf("it ends with %v", err)
		}
	})
}
