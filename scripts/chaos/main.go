//go:build linux

// Command chaos runs a mesh of several hubs in network namespaces, breaks it in every way that is known, and says whether the mesh
// has kept what it promises.
//
//	scripts/chaos/run [-short] [-for 10m] [-only WAYS] [-roll] [-home 6m] [-seed N] [-hubs 3] [-etcds 3] [-agents 20] [-slack 1] [-ztm BINARY] [-etcd PROGRAM]
//
// Hubs, members of etcd and agents are processes, each in a namespace of its own behind one bridge. This program is on the bridge too: it
// is the users of all tunnels, their targets, devices that fight for names and tokens, and who breaks things. It needs root, and leaves
// nothing behind: it lives in namespaces of its own, with all that it starts.
//
//	world.go     namespaces, what is cut off from what, and which ways are left
//	rig.go       the processes
//	log.go       one list of everything that was done, and what was wrong with it
//	nemesis.go   what is broken, when, and for how long
//	exhaust.go   disks, descriptors, clocks and etcd's memory
//	clock.go     the clock of one process
//	roll.go      hubs that are restarted one after the other
//	probes.go    flows: short ones all the time, long ones, large ones
//	target.go    what answers them
//	member.go    devices that are simulated
//	contests.go  tokens, names, evictions
//	rest.go      what must be the same again in the end
//
// It exits with status 1 if an invariant was broken, and prints the seed with which the same things are broken at the same times.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"ztm/scripts/process"
	"ztm/tunnel/pause"
)

// settings are what the command line says.
type settings struct {
	length               time.Duration
	seed                 uint64
	hubs, etcds, agents  int
	short                bool          // accidents follow each other faster
	roll                 bool          // hubs are restarted one after the other in the end
	home                 time.Duration // agents have so long in the end to move home; 0: nobody looks
	slack                float64       // times are longer by so much on a machine that is busy
	ztm, etcd, only, dir string
}

func main() { os.Exit(process.Main("chaos", command)) }

func command(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "get" {
		return get(ctx, args[1])
	}
	inside := len(args) > 0 && args[0] == "inside"
	if inside {
		args = args[1:]
	}
	s, err := parse(args)
	if err != nil {
		return err
	}
	if !inside {
		return outside(ctx, s)
	}
	return run(ctx, s)
}

func parse(args []string) (*settings, error) {
	s := new(settings)
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.BoolVar(&s.short, "short", false, "few processes for a minute")
	flags.DurationVar(&s.length, "for", 10*time.Minute, "so long")
	flags.Uint64Var(&s.seed, "seed", rand.Uint64(), "of what is broken, and when")
	flags.IntVar(&s.hubs, "hubs", 3, "how many hubs")
	flags.IntVar(&s.etcds, "etcds", 3, "how many members of etcd; 0: hubs have links alone")
	flags.IntVar(&s.agents, "agents", 20, "how many agents")
	flags.BoolVar(&s.roll, "roll", false, "in the end restart the hubs one after the other, as for another version")
	flags.DurationVar(&s.home, "home", 0, "in the end wait so long at most until agents are spread; a hub that was away has them back within five minutes")
	flags.Float64Var(&s.slack, "slack", 1, "times that may pass are longer by this `FACTOR`")
	flags.StringVar(&s.ztm, "ztm", "", "the ztm `BINARY` to test; empty: build it")
	flags.StringVar(&s.etcd, "etcd", "", "the etcd `PROGRAM`; empty: look in $PATH")
	flags.StringVar(&s.only, "only", "", "break things in these `WAYS` alone: some of "+ways())
	flags.StringVar(&s.dir, "dir", "", "keep logs and data in `DIR`")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if s.short {
		set := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
		for name, value := range map[string]string{"for": "22s", "hubs": "2", "etcds": "0", "agents": "6", "slack": "2"} {
			if !set[name] {
				flags.Set(name, value)
			}
		}
	}
	for kind := range strings.SplitSeq(s.only, ",") {
		if kind != "" && accidents[kind] == nil {
			return nil, fmt.Errorf("-only %s: want some of %s", kind, ways())
		}
	}
	if s.hubs < 1 || s.agents < 4 || s.etcds < 0 {
		return nil, errors.New("want one hub or more, and four agents or more")
	}
	return s, nil
}

// outside builds what is missing and starts this program again in namespaces of its own, which end with it and with which all ends that
// it has started.
func outside(ctx context.Context, s *settings) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "ztm-chaos-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		s.dir = dir
	}
	var err error
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.ztm, err = process.Ztm(ctx, s.ztm, s.dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", self, "inside"}, s.arguments()...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}

func (s *settings) arguments() []string {
	return []string{
		fmt.Sprint("-short=", s.short), "-for", s.length.String(), "-seed", fmt.Sprint(s.seed), "-hubs", fmt.Sprint(s.hubs), "-etcds", fmt.Sprint(s.etcds), "-agents", fmt.Sprint(s.agents),
		"-slack", fmt.Sprint(s.slack), fmt.Sprint("-roll=", s.roll), "-home", s.home.String(), "-ztm", s.ztm, "-etcd", s.etcd, "-only", s.only, "-dir", s.dir,
	}
}

// run is one run, inside of the namespaces.
func run(ctx context.Context, s *settings) error {
	r, err := newRig(ctx, s)
	if err != nil {
		return err
	}
	defer r.end()
	fmt.Printf("chaos: seed %d, %v, %d hubs, %d members of etcd, %d agents\n", s.seed, s.length, len(r.hubs), len(r.etcds), len(r.agents))
	before := r.resources()
	if err := r.load(ctx); err != nil {
		return err
	}
	r.settle(ctx)
	r.compare(before, r.resources())
	return r.log.verdict(os.Stdout, s.seed)
}

// load runs flows and contests while things are broken, and a while longer.
func (r *rig) load(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	running := r.everything(ctx)
	err := r.nemesis(ctx)
	if err == nil && r.settings.roll {
		err = r.roll(ctx)
	}
	if err == nil && !pause.For(ctx, r.slack(healed)) {
		err = ctx.Err()
	}
	stop()
	running.Wait()
	return err
}

// healed is how long after the last accident everything may take to be as before.
const healed = 15 * time.Second
