package mirror

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

var both, up, down = Mode{Up: true, Down: true}, Mode{Up: true}, Mode{Down: true}

func TestThePlanIsTheTable(t *testing.T) {
	for _, tt := range []struct {
		name           string
		f              File
		both, up, down Step
	}{
		{"nothing has happened", File{Here: "a", Last: "a", Shared: "a", Known: true, Order: Same}, Nothing, Nothing, Nothing},
		{"touched", File{Here: "a", Last: "a", Shared: "a", Known: true, Order: Same, Touched: true}, Adopt, Adopt, Adopt},
		{"made executable", File{Here: "a", Last: "a", Shared: "a", Known: true, Order: Same, Touched: true, Mode: NewMode}, Publish, Publish, Adopt},
		{"executable as it is published", File{Here: "a", Last: "a", Shared: "a", Known: true, Order: Same, Touched: true, Mode: KnownMode}, Adopt, Adopt, Adopt},
		{"a newer version", File{Here: "a", Last: "a", Shared: "b", Known: true, Order: Newer}, Fetch, Nothing, Fetch},
		{"deleted elsewhere", File{Here: "a", Last: "a", Known: true, Order: Newer}, Discard, Nothing, Discard},
		{"published apart", File{Here: "a", Last: "a", Shared: "b", Known: true, Order: Apart}, Aside, Report, Aside},
		{"deleted apart", File{Here: "a", Last: "a", Known: true, Order: Apart}, Publish, Publish, Discard},
		{"a peer is behind", File{Here: "b", Last: "b", Shared: "a", Known: true, Order: Older}, Nothing, Nothing, Nothing},
		{"edited", File{Here: "x", Last: "a", Shared: "a", Known: true, Order: Same}, Publish, Publish, Nothing},
		{"edited, and a newer version", File{Here: "x", Last: "a", Shared: "b", Known: true, Order: Newer}, Aside, Report, Aside},
		{"edited, and one apart", File{Here: "x", Last: "a", Shared: "b", Known: true, Order: Apart}, Aside, Report, Aside},
		{"edited, and deleted elsewhere", File{Here: "x", Last: "a", Known: true, Order: Newer}, Revive, Revive, Nothing},
		{"deleted here", File{Last: "a", Shared: "a", Known: true, Order: Same}, Withdraw, Withdraw, Fetch},
		{"deleted here, and a newer version", File{Last: "a", Shared: "b", Known: true, Order: Newer}, Fetch, Nothing, Fetch},
		{"deleted in both places", File{Last: "a", Known: true, Order: Newer}, Adopt, Adopt, Adopt},
		{"new here", File{Here: "x"}, Publish, Publish, Nothing},
		{"new there", File{Shared: "a", Known: true, Order: Unknown}, Fetch, Nothing, Fetch},
		{"new in both places", File{Here: "x", Shared: "a", Known: true, Order: Unknown}, Aside, Report, Aside},
		{"the same in both places", File{Here: "a", Shared: "a", Known: true, Order: Unknown}, Adopt, Adopt, Adopt},
		{"new where something was deleted", File{Here: "x", Known: true, Order: Unknown}, Publish, Publish, Nothing},
		{"edited in the same way", File{Here: "b", Last: "a", Shared: "b", Known: true, Order: Apart}, Adopt, Adopt, Adopt},
		{"ignored", File{Here: "x", Last: "a", Shared: "b", Known: true, Order: Newer, Ignored: true}, Nothing, Nothing, Nothing},
		{"not representable", File{Shared: "b", Known: true, Order: Unknown, Why: "no"}, Report, Report, Report},
	} {
		tt.f.Path = "f"
		for mode, want := range map[Mode]Step{both: tt.both, up: tt.up, down: tt.down} {
			got := Nothing
			if p := Make(mode, []File{tt.f}, false, false); len(p.Actions) == 1 {
				got = p.Actions[0].Step
			}
			if got != want {
				t.Errorf("%s, %+v: %v, want %v", tt.name, mode, got, want)
			}
		}
	}
}

func TestASelectiveMirrorFetchesNothingThatIsNotHere(t *testing.T) {
	files := []File{
		{Path: "a", Shared: "b", Known: true, Order: Unknown},
		{Path: "b", Last: "a", Shared: "b", Known: true, Order: Newer},
		{Path: "c", Here: "a", Last: "a", Shared: "b", Known: true, Order: Newer},
	}
	p := Make(Mode{Down: true, Selective: true}, files, false, false)
	if len(p.Actions) != 1 || p.Actions[0].Path != "c" || p.Actions[0].Step != Fetch {
		t.Errorf("%+v", p.Actions)
	}
}

func TestManyDeletionsAreAskedAbout(t *testing.T) {
	files := func(n, deleted int) (list []File) {
		for i := range n {
			f := File{Path: fmt.Sprint(i), Here: "a", Last: "a", Shared: "a", Known: true, Order: Same}
			if i < deleted {
				f.Here = ""
			}
			list = append(list, f)
		}
		return list
	}
	for _, tt := range []struct {
		all, deleted int
		held         bool
	}{{1, 1, false}, {10, 10, false}, {20, 10, false}, {20, 11, true}, {100, 60, true}, {5000, 1000, false}, {5000, 1001, true}} {
		p := Make(both, files(tt.all, tt.deleted), false, false)
		if (len(p.Held) == tt.deleted) != tt.held || len(p.Held)+len(p.Actions) != tt.deleted {
			t.Errorf("%d of %d: %d are held, %d done", tt.deleted, tt.all, len(p.Held), len(p.Actions))
		}
		if p := Make(both, files(tt.all, tt.deleted), false, true); len(p.Held) > 0 || len(p.Actions) != tt.deleted {
			t.Errorf("%d of %d, confirmed: %d are held", tt.deleted, tt.all, len(p.Held))
		}
	}
	// Others' deletions are held as well, and nothing else is.
	var list []File
	for i := range 30 {
		list = append(list, File{Path: fmt.Sprint(i), Here: "a", Last: "a", Known: true, Order: Newer})
	}
	list = append(list, File{Path: "new", Here: "x"})
	if p := Make(both, list, false, false); len(p.Held) != 30 || len(p.Actions) != 1 {
		t.Errorf("%d are held, %d done", len(p.Held), len(p.Actions))
	}
}

func TestNamesThatAreOneOnThisDiskDoNotReplaceEachOther(t *testing.T) {
	files := []File{
		{Path: "Readme", Here: "a", Last: "a", Shared: "a", Known: true, Order: Same},
		{Path: "README", Shared: "b", Known: true, Order: Unknown},
		{Path: "x", Shared: "b", Known: true, Order: Unknown},
		{Path: "X", Shared: "c", Known: true, Order: Unknown},
	}
	steps := func(folds bool) (got []string) {
		for _, a := range Make(both, files, folds, false).Actions {
			got = append(got, a.Path+" "+a.Step.String())
		}
		return got
	}
	if got := steps(true); !slices.Equal(got, []string{"README report", "X report", "x fetch"}) {
		t.Errorf("%q", got)
	}
	if got := steps(false); !slices.Equal(got, []string{"README fetch", "X fetch", "x fetch"}) {
		t.Errorf("%q", got)
	}
}

// The model: devices that edit, delete and meet at random, each with the planner. Versions are
// vectors; a device knows the winner of those it has heard of, as the index does.

type vector map[int]int

func (v vector) order(w vector) Order {
	less, more := false, false
	for i := range 8 {
		less, more = less || v[i] < w[i], more || v[i] > w[i]
	}
	switch {
	case less && more:
		return Apart
	case less:
		return Newer
	case more:
		return Older
	}
	return Same
}

func merge(v, w vector) vector {
	out := maps.Clone(v)
	if out == nil {
		out = vector{}
	}
	for i, n := range w {
		out[i] = max(out[i], n)
	}
	return out
}

type version struct {
	content Content
	vec     vector
	by      int
}

// wins decides between two versions that were made apart: the same everywhere.
func wins(a, b version) bool {
	if o := b.vec.order(a.vec); o != Apart {
		return o == Newer
	}
	// An edit wins over a deletion, then it is decided by content.
	if (a.content == "") != (b.content == "") {
		return a.content != ""
	}
	return cmp.Compare(a.content, b.content) > 0
}

type device struct {
	id     int
	mode   Mode
	here   map[string]Content
	last   map[string]version // what was here in step
	known  map[string]version
	seen   map[string]vector // of everything it has heard of
	trash  []Content
	asides int
}

type world struct {
	t       *testing.T
	r       *rand.Rand
	devices []*device
	made    int
	alive   map[Content]bool // contents that nobody has changed or deleted on purpose
}

func (d *device) files() (list []File) {
	paths := map[string]bool{}
	for p := range d.here {
		paths[p] = true
	}
	for p := range d.known {
		paths[p] = true
	}
	for p := range paths {
		k, isKnown := d.known[p]
		l, wasHere := d.last[p]
		f := File{Path: p, Here: d.here[p], Last: l.content, Shared: k.content, Known: isKnown, Order: Unknown}
		if wasHere {
			f.Order = l.vec.order(k.vec)
		}
		list = append(list, f)
	}
	return list
}

// content finds the content of a version anywhere it may be: at whoever has it in place.
func (w *world) available(c Content) bool {
	for _, d := range w.devices {
		for _, have := range d.here {
			if have == c {
				return true
			}
		}
	}
	return false
}

func (w *world) sync(d *device) {
	for _, a := range Make(d.mode, d.files(), false, true).Actions {
		k := d.known[a.Path]
		switch a.Step {
		case Adopt:
			d.last[a.Path] = k
		case Publish, Revive, Withdraw:
			w.publish(d, a.Path)
		case Fetch, Aside:
			if !w.available(k.content) {
				continue // tried again later
			}
			if old := d.here[a.Path]; a.Step == Aside {
				l := d.last[a.Path]
				name := fmt.Sprintf("%s.conflict-%d-%d", a.Path, d.id, d.asides)
				if old == l.content { // a version that others have as well: the same name everywhere
					name = fmt.Sprintf("%s.conflict-%v", a.Path, old)
				} else {
					d.asides++
				}
				d.here[name] = old
			} else if old != "" {
				d.trash = append(d.trash, old)
			}
			d.here[a.Path], d.last[a.Path] = k.content, k
		case Discard:
			d.trash = append(d.trash, d.here[a.Path])
			delete(d.here, a.Path)
			d.last[a.Path] = k
		}
	}
}

func (w *world) publish(d *device, path string) {
	vec := merge(d.seen[path], nil)
	vec[d.id]++
	v := version{d.here[path], vec, d.id}
	d.known[path], d.last[path], d.seen[path] = v, v, vec
}

// meet has one device hear of all that another knows.
func (w *world) meet(d, from *device) {
	for path, v := range from.known {
		have, ok := d.known[path]
		if !ok || wins(v, have) {
			d.known[path] = v
		}
		d.seen[path] = merge(merge(d.seen[path], v.vec), from.seen[path])
	}
}

// edit is a person at a device: what they replace or delete there is theirs to lose.
func (w *world) edit(d *device) {
	path := string(rune('a' + w.r.IntN(4)))
	old := d.here[path]
	if old != "" {
		w.alive[old] = false
	}
	if w.r.IntN(4) == 0 {
		delete(d.here, path)
		return
	}
	w.made++
	c := Content(fmt.Sprintf("%04d", w.made))
	d.here[path] = c
	w.alive[c] = true
}

// check is the property: no content is gone that nobody has replaced or deleted by hand.
func (w *world) check(step int) {
	exists := map[Content]bool{}
	for _, d := range w.devices {
		for _, c := range d.here {
			exists[c] = true
		}
		for _, c := range d.trash {
			exists[c] = true
		}
	}
	for c, is := range w.alive {
		if is && !exists[c] {
			w.t.Fatalf("after %d steps %s is nowhere", step, c)
		}
	}
}

func TestNothingIsEverLost(t *testing.T) {
	appstest.Long(t)
	for seed := range uint64(300) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), alive: map[Content]bool{}}
		for i := range 3 {
			mode := both
			if seed%3 == 1 && i == 2 {
				mode = down
			}
			if seed%3 == 2 && i == 2 {
				mode = up
			}
			w.devices = append(w.devices, &device{id: i, mode: mode, here: map[string]Content{}, last: map[string]version{}, known: map[string]version{}, seen: map[string]vector{}})
		}
		for step := range 200 {
			d := w.devices[w.r.IntN(3)]
			switch w.r.IntN(4) {
			case 0:
				w.edit(d)
			case 1:
				w.meet(d, w.devices[w.r.IntN(3)])
			default:
				w.sync(d)
			}
			w.check(step)
		}
		w.settle()
		if seed%3 == 0 {
			w.agree(seed)
		}
	}
}

// settle lets all devices meet until nothing happens.
func (w *world) settle() {
	for range 12 {
		for _, d := range w.devices {
			for _, o := range w.devices {
				w.meet(d, o)
			}
			w.sync(d)
			w.check(-1)
		}
	}
}

// agree checks that all have the same names with the same contents.
func (w *world) agree(seed uint64) {
	for _, d := range w.devices[1:] {
		if !maps.Equal(d.here, w.devices[0].here) {
			w.t.Fatalf("seed %d: device 0 has %v, device %d %v", seed, w.devices[0].here, d.id, d.here)
		}
	}
}
