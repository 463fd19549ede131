//go:build linux

// Command files tries what real agents make of real files, and of what happens to machines meanwhile.
//
//	kill    an agent is killed at random moments while it fetches or publishes
//	clocks  three agents whose clocks are at 1970, now and 2038 edit the same files apart
//	full    a disk becomes full while files come to it
//	gone    the disk of a mirror vanishes while the agent runs
//	git     a repository is mirrored while commits are made in it
//	names   names of macOS and of Windows, and some that no mesh has
//	modes   a disk that has no modes of its own, as FAT
//	many    ten thousand small files, by copy, cloud and mirror
//	huge    one file of 4 GB
//
// What needs root, or a program that is not here, is said to be left out.
//
//	scripts/files/run [-only kill,clocks] [-rounds 100] [-size 50] [-files 10000] [-huge 4096] [-binary FILE]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ztm/scripts/process"
)

// plan says how much is done.
type plan struct {
	rounds int // of kill
	size   int // of the files of kill and full, in bytes
	files  int // of many
	huge   int // in bytes
}

// trial is one thing that is tried, in a world of its own.
type trial struct {
	name string
	run  func(w *world, p plan) error
}

var trials = []trial{
	{"kill", kill}, {"clocks", clocks}, {"full", full}, {"gone", gone}, {"git", git}, {"names", names}, {"modes", modes}, {"many", many}, {"huge", huge},
}

func main() {
	only := flag.String("only", "", "try these `names` alone, with commas between them")
	rounds := flag.Int("rounds", 100, "kill an agent `so often`")
	size := flag.Int("size", 50, "with a file of so many `MiB`")
	files := flag.Int("files", 10_000, "copy so `many` small files")
	most := flag.Int("huge", 4096, "copy a file of so many `MiB`")
	binary := flag.String("binary", "", "run this `file` instead of building one")
	flag.Parse()
	os.Exit(process.Main("files", func(ctx context.Context, _ []string) error {
		return process.InScratch(ctx, "files", *binary, func(dir, ztm string) error {
			return all(ctx, dir, ztm, *only, plan{*rounds, *size << 20, *files, *most << 20})
		})
	}))
}

// all tries what is wanted, one after the other.
func all(ctx context.Context, dir, ztm, only string, p plan) error {
	for name := range strings.SplitSeq(only, ",") {
		if name != "" && !slices.ContainsFunc(trials, func(t trial) bool { return t.name == name }) {
			return fmt.Errorf("there is no trial %q", name)
		}
	}
	for _, t := range trials {
		if only != "" && !slices.Contains(strings.Split(only, ","), t.name) {
			continue
		}
		begun := time.Now()
		err := one(ctx, filepath.Join(dir, t.name), ztm, t, p)
		if out := missing(""); errors.As(err, &out) {
			fmt.Printf("%-7s left out: %v\n", t.name, out)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		fmt.Printf("%-7s ok, %v\n", t.name, time.Since(begun).Round(time.Second))
	}
	return nil
}

// one tries one thing in a directory, which is removed.
func one(ctx context.Context, dir, ztm string, t trial, p plan) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	w := newWorld(ctx, dir, ztm)
	err := t.run(w, p)
	w.end()
	return errors.Join(err, os.RemoveAll(dir))
}

// missing is what a trial needs and does not find.
type missing string

func (m missing) Error() string { return string(m) }
