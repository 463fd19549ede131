package mirror

import (
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

func TestAConfirmationIsForTheDeletionsOfThatTimeAlone(t *testing.T) {
	f := fixed{dir: t.TempDir()}
	for i := range 20 {
		f.known = append(f.known, Published{Path: fmt.Sprint("d/", i), Shared: "x", Last: "x", Local: true, Order: Same})
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
	m := New(Config{Cloud: f, Mode: Mode{Up: true, Down: true}, Mark: mark})
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
