package install

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"ztm/apps"
	"ztm/apps/external/bundle"
)

// TestAnUpgradeMayEndAtAnyMoment copies the disk at every byte that is read, and around the switch,
// as a crash would leave it; then it starts anew from each copy.
func TestAnUpgradeMayEndAtAnyMoment(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, 1, "one"); err != nil {
		t.Fatal(err)
	}
	old := stateOf(t, w)
	var crashes []crash
	snap := func(s *frozen) {
		dir := filepath.Join(t.TempDir(), "crash")
		if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
			t.Fatal(err)
		}
		crashes = append(crashes, crash{dir, &frozen{saved: s.saved}})
	}
	w.store.config.State = &spying{w.host.State, func() { snap(old) }}
	b, from := version(2, "two")
	source := func(f bundle.File) (io.ReadCloser, error) {
		r, err := from(f)
		return io.NopCloser(spyReader{r, func() { snap(old) }}), err
	}
	w.store.config.Changed = func(string) { snap(stateOf(t, w)) }
	if _, err := w.store.Install(w.sign(t, b), source, agreed(t, b)); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 8 {
		t.Fatalf("only %d moments were tried", len(crashes))
	}
	for i, c := range crashes {
		s := w.open(c.state, c.dir)
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		want := "one"
		if i == len(crashes)-1 {
			want = "two"
		}
		runs(t, s, want)
		if _, err := s.Install(w.sign(t, b), from, agreed(t, b)); err != nil {
			t.Errorf("moment %d: the next attempt: %v", i, err)
		}
		runs(t, s, "two")
	}
}

func TestAnInstallationGoesOnWhileTheStartTidies(t *testing.T) {
	w := newWorld(t)
	b, from := version(1, "one")
	tidied := 0
	source := func(f bundle.File) (io.ReadCloser, error) {
		tidied++
		if err := w.store.Tidy(); err != nil {
			t.Error(err)
		}
		return from(f)
	}
	if _, err := w.store.Install(w.sign(t, b), source, agreed(t, b)); err != nil || tidied == 0 {
		t.Fatal(tidied, err)
	}
	runs(t, w.store, "one")
}

// crash is what the disk holds at a moment.
type crash struct {
	dir   string
	state *frozen
}

// frozen is a state of its own in memory.
type frozen struct {
	apps.State
	saved map[string]App
}

func stateOf(t *testing.T, w *world) *frozen {
	t.Helper()
	var a App
	if _, err := w.host.State.Load(key(id), &a); err != nil {
		t.Fatal(err)
	}
	return &frozen{saved: map[string]App{key(id): a}}
}

func (f *frozen) Keys(string) ([]string, error) { return []string{key(id)}, nil }
func (f *frozen) Load(k string, v any) (bool, error) {
	a, ok := f.saved[k]
	*v.(*App) = a
	return ok, nil
}
func (f *frozen) Save(k string, v any) error {
	f.saved = map[string]App{k: v.(App)}
	return nil
}

// spying calls a function before each save.
type spying struct {
	apps.State
	before func()
}

func (s *spying) Save(k string, v any) error {
	s.before()
	return s.State.Save(k, v)
}

// spyReader calls a function after each byte.
type spyReader struct {
	io.Reader
	after func()
}

func (s spyReader) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.after()
	return n, err
}
