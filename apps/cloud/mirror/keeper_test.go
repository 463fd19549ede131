package mirror

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/rooted"
)

// fixed is a cloud that knows the same always.
type fixed struct {
	Cloud
	dir   string
	known []Published
}

func (f fixed) Root(string, string) (*rooted.Dir, error)   { return rooted.Open(f.dir) }
func (f fixed) Known(string, string) ([]Published, error)  { return f.known, nil }
func (f fixed) Sum(string, string) (Content, int64, error) { return "sum", 0, nil }

// marked makes a directory that of a mirror.
func marked(t *testing.T, dir string) Mark {
	t.Helper()
	root, err := rooted.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	mark, err := SetMark(root, "id")
	if err != nil {
		t.Fatal(err)
	}
	return mark
}

func TestAConfirmationIsForTheDeletionsOfThatTimeAlone(t *testing.T) {
	f := fixed{dir: t.TempDir()}
	for i := range 20 {
		f.known = append(f.known, Published{Path: fmt.Sprint("d/", i), Shared: "x", Last: "x", Local: true, Order: Same})
	}
	m := New(Config{Cloud: f, Mode: Mode{Up: true, Down: true}, Mark: marked(t, f.dir)})
	m.Confirm()
	now := time.Now()
	for i, held := range []int{0, 0, 20} { // they have not stood still; they go; others would be asked about
		log := filepath.Join(f.dir, "log") // somebody writes it all the time
		if err := os.WriteFile(log, []byte(strings.Repeat("x", i)), 0o600); err != nil {
			t.Fatal(err)
		}
		p, _, err := m.Plan(now.Add(time.Duration(i) * StandStill))
		if err != nil || len(p.Held) != held || i == 1 && len(p.Actions) != 20 {
			t.Errorf("plan %d: %d are held, %d go, %v", i, len(p.Held), len(p.Actions), err)
		}
	}
}

// asking is a cloud whose peers do not answer.
type asking struct {
	fixed
	asked chan struct{} // closed when they are asked
}

func (a asking) Changed() <-chan struct{} { return nil }

func (a asking) Refresh(ctx context.Context, _ string) {
	close(a.asked)
	<-ctx.Done()
}

func TestWhatIsHereIsKnownWhileOthersAreAsked(t *testing.T) {
	a := asking{fixed{dir: t.TempDir()}, make(chan struct{})}
	mark := marked(t, a.dir)
	if err := os.WriteFile(filepath.Join(a.dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := New(Config{Cloud: a, Mode: Mode{Up: true, Down: true}, Mark: mark})
	ended := make(chan struct{})
	go func() { m.Run(ctx); close(ended) }() // awaited below
	<-a.asked
	if s := m.State(); s.Looked || s.Files != 1 || s.Err != nil {
		t.Errorf("while others are asked it is %+v", s)
	}
	cancel()
	<-ended
}

func TestAFileIsKnownInTheFormThatTheDiskHasMadeOfItsName(t *testing.T) {
	const published, onDisk = "caf\u00e9/\u00fc", "cafe\u0301/u\u0308"
	if rooted.Form(published) != rooted.Form(onDisk) {
		t.Skip("it compares bytes")
	}
	for _, folds := range []bool{true, false} { // a disk that knows the file by both names, and one that has two
		f := fixed{dir: t.TempDir()}
		name := filepath.Join(f.dir, filepath.FromSlash(onDisk))
		if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		root, err := rooted.Open(f.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		mark, err := SetMark(root, "id")
		if err != nil {
			t.Fatal(err)
		}
		f.known = []Published{{Path: published, Shared: "x", Last: "x", Local: true, Order: Same, Size: st.Size(), Changed: st.ModTime().UnixNano()}}
		m := New(Config{Cloud: f, Mode: Mode{Up: true, Down: true}, Mark: mark})
		if folds {
			m.One = func(a, b string) bool { return rooted.Form(a) == rooted.Form(b) }
		}
		var steps []string
		for i := range 2 { // at first it has not stood still
			p, _, err := m.Plan(time.Now().Add(time.Duration(i) * StandStill))
			if err != nil {
				t.Fatal(err)
			}
			steps = nil
			for _, a := range p.Actions {
				steps = append(steps, a.Step.String())
			}
		}
		if want := map[bool]string{true: "", false: "publish withdraw"}[folds]; strings.Join(steps, " ") != want {
			t.Errorf("a disk that folds forms %v: %v, want %q", folds, steps, want)
		}
	}
}
