// Command cross builds the releases: every target as a static binary, the same bytes wherever it is
// built, with archives and packages, checksums and a table of sizes.
//
//	go run ./cross                                  everything, into dist/
//	go run ./cross -only linux/mipsle,linux/arm5    some targets
//	go run ./cross -only linux/amd64 -profile router -omit terminal,script
//	go run ./cross -only linux/mipsle -add policies
//	go run ./cross -check                           the sizes that have budgets, against budgets.txt
//	go run ./cross -link                            that every target links, and nothing else; with -check the sizes as well
//	go run ./cross -bare                            binaries and checksums, without packages
//	go run ./cross -only linux/mipsle -lines FILE   the lines of a trace that a router has printed
//
//	targets.go -> build.go (go build, overlay.go; two at a time) -> archive.go, packages.go, image.go -> SHA256SUMS -> sizes.go
//
// It needs Go and nothing else; xz, if it is there, for a column of the table.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "cross:", err)
		}
		os.Exit(1)
	}
}

// job is what the command line asks for.
type job struct {
	targets []Target
	out     string   // directory; empty: the binaries are measured and thrown away
	measure bool     // compress everything with xz, and not only what has a budget for that
	budgets []budget // to be kept; none: no matter
	bare    bool     // make no packages
	release Release
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("cross", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "build these `targets`, with commas between them")
	profile := flags.String("profile", "", "build with this `profile` instead of each target's own: full or router")
	omit := flags.String("omit", "", "leave these `features` out: "+strings.Join(features, ", "))
	add := flags.String("add", "", "put these `features` in that the router profile leaves out: "+strings.Join(extras, ", "))
	out := flags.String("out", "dist", "write to this `directory`")
	version := flags.String("version", "", "call it this `version` instead of what git says")
	check := flags.Bool("check", false, "build what has a budget and fail if it is exceeded; write nothing")
	link := flags.Bool("link", false, "build and throw away: do all targets link? With -check, compare those that have a budget")
	bare := flags.Bool("bare", false, "write the binaries and their sums, and no packages")
	trace := flags.String("lines", "", "print the trace of a stack in this `file` with lines; a dash is standard input; it is of the one target of -only")
	list := flags.Bool("list", false, "list the targets")
	if err := flags.Parse(args); err != nil {
		return err
	}
	budgets, err := parseBudgets(budgetsFile)
	if err != nil {
		return err
	}
	j := job{out: *out, measure: !*link && !*bare, bare: *bare}
	if j.targets, err = choose(*only, Profile(*profile), *check && !*link, budgets); err != nil {
		return err
	}
	if err := adjust(j.targets, *omit, *add); err != nil {
		return err
	}
	if *list {
		for _, t := range j.targets {
			fmt.Fprintf(stdout, "%-15s %-7s %s\n", t.Name, t.Profile, t.Reason)
		}
		return nil
	}
	if *check || *link {
		j.out = ""
	}
	if *check {
		j.budgets = budgets
	}
	if *trace != "" {
		return j.lines(ctx, *trace, stdout)
	}
	return j.run(ctx, *version, stdout, stderr)
}

// lines prints a trace with its lines.
func (j job) lines(ctx context.Context, path string, stdout io.Writer) error {
	if len(j.targets) != 1 {
		return fmt.Errorf("-lines: say with -only which target the trace is of")
	}
	var trace []byte
	var err error
	if path == "-" {
		trace, err = io.ReadAll(os.Stdin)
	} else {
		trace, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "ztm-cross-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if j.release, err = newRelease(ctx, "", scratch); err != nil {
		return err
	}
	l, err := j.release.lines(ctx, j.targets[0], scratch)
	if err != nil {
		return err
	}
	return l.write(stdout, string(trace))
}

// run builds, prints the table, and compares it with the budgets.
func (j job) run(ctx context.Context, version string, stdout, stderr io.Writer) error {
	scratch, err := os.MkdirTemp("", "ztm-cross-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if j.release, err = newRelease(ctx, version, scratch); err != nil {
		return err
	}
	if j.out != "" && !j.bare {
		if j.release.Manual, err = manual(ctx, j.release.Root, scratch); err != nil {
			return err
		}
	}
	sizes, err := j.build(ctx, scratch, stderr)
	if err := errors.Join(printSizes(stdout, sizes), err); err != nil {
		return err
	}
	return checkSizes(j.budgets, sizes)
}

// choose returns the targets that are meant.
func choose(only string, profile Profile, check bool, budgets []budget) ([]Target, error) {
	if profile != "" && profile != Full && profile != Router {
		return nil, fmt.Errorf("unknown profile %q: there are full and router", profile)
	}
	names := words(only)
	all := Targets()
	for _, n := range names {
		if !slices.ContainsFunc(all, func(t Target) bool { return t.Name == n }) {
			return nil, fmt.Errorf("unknown target %q: see -list", n)
		}
	}
	var out []Target
	for _, t := range all {
		if profile != "" {
			t.Profile = profile
		}
		hasBudget := slices.ContainsFunc(budgets, func(b budget) bool { return b.target == t.Name && b.profile == t.Profile })
		if (len(names) == 0 || slices.Contains(names, t.Name)) && (!check || hasBudget) {
			out = append(out, t)
		}
	}
	return out, nil
}

// adjust leaves features out of all targets, and puts others in.
func adjust(targets []Target, omit, add string) error {
	for _, f := range words(omit) {
		if !slices.Contains(features, f) {
			return fmt.Errorf("-omit: unknown feature %q: there are %s", f, strings.Join(features, ", "))
		}
	}
	for _, f := range words(add) {
		if !slices.Contains(extras, f) {
			return fmt.Errorf("-add: the router profile cannot have %q: there are %s", f, strings.Join(extras, ", "))
		}
	}
	for i := range targets {
		targets[i].Omit, targets[i].Add = words(omit), append(slices.Clip(targets[i].Add), words(add)...)
	}
	return nil
}

// words are separated by commas or spaces.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// atOnce is how many targets are built at a time: the end of each build is the linker, which leaves
// a second processor idle.
const atOnce = 2

// built is a target's binary, or why there is none.
type built struct {
	size
	program []byte
	err     error
}

// build builds every target. One that fails does not keep the others: its error names it.
func (j job) build(ctx context.Context, scratch string, progress io.Writer) ([]size, error) {
	licence, err := os.ReadFile(filepath.Join(j.release.Root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	var (
		sizes  []size
		failed error
		sums   = map[string]string{}
		img    = &image{root: filepath.Join(j.out, "image")}
	)
	coming := make(chan chan built, atOnce-1) // closed by buildAll; with the one that is awaited below they are atOnce
	go j.buildAll(ctx, scratch, progress, coming)
	for one := range coming {
		b := <-one
		if b.err == nil && j.out != "" {
			b.err = j.write(b.target, b.program, licence, sums)
		}
		if b.err == nil && j.out != "" && !j.bare {
			b.err = img.add(j.release, b.target, b.program)
		}
		if b.err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", b.target.Name, b.err))
			continue
		}
		sizes = append(sizes, b.size)
	}
	if ctx.Err() != nil {
		return sizes, errors.Join(failed, ctx.Err())
	}
	if j.out != "" {
		failed = errors.Join(failed, img.finish(j.release), j.writeSums(sums))
	}
	return sizes, failed
}

// buildAll sends a channel for each target, on which its binary comes. It ends when ctx does, or
// when all are taken.
func (j job) buildAll(ctx context.Context, scratch string, progress io.Writer, coming chan<- chan built) {
	defer close(coming)
	for _, t := range j.targets {
		if ctx.Err() != nil {
			return
		}
		one := make(chan built, 1)
		coming <- one // until there is room for one more
		fmt.Fprintf(progress, "%s (%s)\n", t.Name, t.Profile)
		go func() { one <- j.buildOne(ctx, t, filepath.Join(scratch, "ztm-"+t.File())) }() // build awaits it
	}
}

// buildOne builds a target and measures it. path is where the binary is for a while.
func (j job) buildOne(ctx context.Context, t Target, path string) built {
	b := built{size: size{target: t}}
	if b.err = j.release.build(ctx, t, path); b.err != nil {
		return b
	}
	if b.program, b.err = os.ReadFile(path); b.err != nil {
		return b
	}
	if b.err = os.Remove(path); b.err != nil {
		return b
	}
	b.raw = int64(len(b.program))
	if j.measures(t) {
		xz, _ := exec.LookPath("xz")
		b.xz, b.err = compressed(ctx, xz, b.program)
	}
	return b
}

// measures reports whether the target is to be compressed.
func (j job) measures(t Target) bool {
	return j.measure || slices.ContainsFunc(j.budgets, func(b budget) bool { return b.target == t.Name && b.profile == t.Profile && b.xz > 0 })
}

// write writes everything that is made of one binary and notes the checksums.
func (j job) write(t Target, program, licence []byte, sums map[string]string) error {
	name := "ztm-" + t.File()
	if t.OS == "windows" {
		name += ".exe"
	}
	all := []artifact{{name, program}}
	if !j.bare {
		packages, err := j.release.packages(t, program, licence)
		if err != nil {
			return err
		}
		all = append(all, packages...)
	}
	if err := os.MkdirAll(j.out, 0o755); err != nil {
		return err
	}
	for _, a := range all {
		mode := os.FileMode(0o644)
		if a.name == name {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(j.out, a.name), a.data, mode); err != nil {
			return err
		}
		sums[a.name] = fmt.Sprintf("%x", sha256.Sum256(a.data))
	}
	return nil
}

// writeSums writes SHA256SUMS, as sha256sum -c reads it.
func (j job) writeSums(sums map[string]string) error {
	var lines []string
	for name, sum := range sums {
		lines = append(lines, sum+"  "+name+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	if err := os.MkdirAll(j.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(j.out, "SHA256SUMS"), []byte(strings.Join(lines, "")), 0o644)
}
