package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"ztm/agent/api"
	"ztm/apps/external/sdk"
	scripts "ztm/scripts/process"
	"ztm/tunnel/pause"
)

// A long life: all that people and programs do with a mesh is done and undone for a while, in rounds
// with a rest after each:
//
//	this program: deeds -> local API of two agents and of a third that comes and goes
//	              round, rest, samples of each process; six times -> what grows from round to round?
//
// What a process has after the last rounds it must have had after the first ones: memory, descriptors,
// goroutines. Deletions of files, endpoints that were admitted and names are known for a while: for each
// of these a process may keep some bytes.

const (
	lifeRounds = 6
	rest       = 20 * time.Second
)

// life is a mesh with a third agent, which comes and goes.
type life struct {
	*mesh
	root, exit, guest *agent
	port              string // for tunnels that come and go
}

// sample is what a process has.
type sample struct {
	memory, goroutines, files, data, log int64
}

// live runs the mesh, does everything, and prints what came of it.
func live(ctx context.Context, dir, ztm string, length time.Duration) error {
	m := &mesh{Group: scripts.Group{Dir: dir}, ztm: ztm}
	defer m.End(timeout)
	if err := m.prepare(ctx); err != nil {
		return err
	}
	l := &life{mesh: m, port: scripts.FreeAddress()}
	if err := l.furnish(ctx); err != nil {
		return err
	}
	deeds := l.deeds()
	var numbers atomic.Int64
	samples := [][]sample{}
	for range lifeRounds {
		l.round(ctx, deeds, &numbers, length/lifeRounds)
		if !pause.For(ctx, rest) {
			return ctx.Err()
		}
		samples = append(samples, l.samples())
		l.print(os.Stdout, samples)
	}
	printDeeds(os.Stdout, deeds)
	return errors.Join(l.verdict(samples, deeds), unbroken(deeds, m.stop()))
}

// round does everything at once for a while.
func (l *life) round(ctx context.Context, deeds []*deed, numbers *atomic.Int64, length time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	for _, d := range deeds {
		running.Go(func() { d.repeat(ctx, numbers) })
	}
}

// cloud is the local directory of an agent.
func (l *life) cloud(name string) string { return filepath.Join(l.Dir, "cloud-"+name) }

// furnish gets ready what the deeds need.
func (l *life) furnish(ctx context.Context) (err error) {
	if l.root, err = reach(ctx, l.mesh.entrance, "soak"); err != nil {
		return err
	}
	if l.exit, err = reach(ctx, l.mesh.exit, "soak"); err != nil {
		return err
	}
	for name, a := range map[string]*agent{"entrance": l.root, "exit": l.exit} {
		if err := a.app(ctx, http.MethodPatch, "cloud/config", map[string]string{"localDir": l.cloud(name)}); err != nil {
			return err
		}
	}
	data := filepath.Join(l.Dir, "guest")
	l.guest = &agent{data: data, client: &http.Client{Transport: door{data}}}
	if _, err := l.start("guest", "run", "agent", "--data", data, "--metrics", l.metricsOf("guest")); err != nil {
		return err
	}
	if err := l.root.do(ctx, http.MethodPost, api.PolicyPath("soak", l.root.id, "groups", "guests"), map[string]any{"add": []string{"guest"}}, nil); err != nil {
		return err
	}
	return l.install(ctx)
}

// install installs this program as an app at the exit.
func (l *life) install(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(l.Dir, "life")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	manifest := `{"name": "life", "version": "1", "exec": {"any": ["serve", "app"]}}`
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "serve"), program, 0o700), os.WriteFile(filepath.Join(dir, "app.json"), []byte(manifest), 0o600)); err != nil {
		return err
	}
	return l.call(ctx, l.mesh.exit, "app", "install", dir, "--yes", "--unconfined")
}

// serveApp is the app, until ctx ends.
func serveApp(ctx context.Context) error {
	ln, err := sdk.Listen()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here\n") }))
}

// samples returns what each process has.
func (l *life) samples() (list []sample) {
	for _, p := range l.ours {
		var s sample
		s.memory, _ = p.Memory()
		if files, err := os.ReadDir(p.Proc("fd")); err == nil {
			s.files = int64(len(files))
		}
		s.goroutines = l.goroutines(p.Name)
		s.data = size(filepath.Join(l.Dir, p.Name))
		s.log = size(filepath.Join(l.Dir, p.Name+".log"))
		list = append(list, s)
	}
	return list
}

// size is that of a file, or of all in a directory.
func size(path string) (total int64) {
	filepath.Walk(path, func(_ string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			total += fi.Size()
		}
		return nil
	})
	return total
}

var goroutineLine = regexp.MustCompile(`(?m)^ztm_(?:hub|agent)_goroutines (\d+)$`)

// goroutines asks a process for its counters.
func (l *life) goroutines(name string) int64 {
	resp, err := http.Get("http://" + l.metricsOf(name) + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if found := goroutineLine.FindSubmatch(b); found != nil {
		n, _ := strconv.ParseInt(string(found[1]), 10, 64)
		return n
	}
	return 0
}

// metricsOf is where a process serves its counters.
func (m *mesh) metricsOf(name string) string {
	if m.metrics == nil {
		m.metrics = map[string]string{}
	}
	if m.metrics[name] == "" {
		m.metrics[name] = scripts.FreeAddress()
	}
	return m.metrics[name]
}

func (l *life) print(w io.Writer, samples [][]sample) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\nafter round %d\tmemory MB\tgoroutines\tfiles\tdata kB\tlog kB\t\n", len(samples))
	for i, p := range l.ours {
		row := p.Name
		for _, f := range []func(sample) string{
			func(s sample) string { return fmt.Sprintf("%.1f", float64(s.memory)/1e6) },
			func(s sample) string { return fmt.Sprint(s.goroutines) },
			func(s sample) string { return fmt.Sprint(s.files) },
			func(s sample) string { return fmt.Sprint(s.data / 1000) },
			func(s sample) string { return fmt.Sprint(s.log / 1000) },
		} {
			row += "\t"
			for _, round := range samples {
				row += " " + f(round[i])
			}
		}
		fmt.Fprintln(t, row+"\t")
	}
	t.Flush()
}

func printDeeds(w io.Writer, deeds []*deed) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ndone\ttimes\tfailed\t")
	for _, d := range deeds {
		fmt.Fprintf(t, "%s\t%d\t%d\t\n", d.name, d.done.Load(), d.failed.Load())
	}
	t.Flush()
}

// Limits of what may be left.
const (
	keptBytes = 2 << 10 // of data, for each deed of which something is known for some time
	logBytes  = 1 << 10 // of a log, for each deed
)

// verdict returns what grows.
func (l *life) verdict(samples [][]sample, deeds []*deed) error {
	var errs []error
	all, kept := int64(0), int64(0)
	for _, d := range deeds {
		n := d.done.Load() + d.failed.Load()
		all += n
		if d.kept {
			kept += n
		}
	}
	for i, p := range l.ours {
		for _, of := range []struct {
			what  string
			value func(sample) int64
			slack int64
		}{
			{"bytes of memory", func(s sample) int64 { return s.memory }, 8 << 20},
			{"goroutines", func(s sample) int64 { return s.goroutines }, 20},
			{"descriptors", func(s sample) int64 { return s.files }, 10},
			{"bytes of its own", func(s sample) int64 { return s.data }, 1<<20 + keptBytes*kept},
			{"bytes in its log", func(s sample) int64 { return s.log }, logBytes * all},
		} {
			var values []int64
			for _, round := range samples {
				values = append(values, of.value(round[i]))
			}
			if grows(values, of.slack) {
				errs = append(errs, fmt.Errorf("%s has ever more %s: %d", p.Name, of.what, values))
			}
		}
	}
	return errors.Join(errs...)
}

// grows reports whether the least of the second half is more than the most of the first, and by more than
// a tenth and some slack. Memory is garbage in part, and goes up and down.
func grows(values []int64, slack int64) bool {
	half := len(values) / 2
	before, after := slices.Max(values[:half]), slices.Min(values[half:])
	return after > before+before/10+slack
}

// unbroken returns what failed.
func unbroken(deeds []*deed, broken []string) error {
	var errs []error
	for _, d := range deeds {
		if err := d.first.Load(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %d failed, the first: %w", d.name, d.failed.Load(), *err))
		}
	}
	for _, what := range broken {
		errs = append(errs, errors.New(what))
	}
	return errors.Join(errs...)
}
