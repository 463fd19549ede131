// Command hostile attacks a hub and its agents, and says what an honest pair notices of it.
//
//	scripts/hostile/run [-for 20s] [-only NAME,...] [-ztm BINARY] [-json FILE]
//
// Hub and agents are the real program, each a process of its own. The attackers are another process, made of what real agents are made of.
// It has only the processor time that the others leave: attackers bring machines of their own, and what counts is what hub and agents do
// for them.
//
//	mesh     hub, agents entrance and exit, a tunnel between them, a load server behind it     (mesh.go)
//	attacker starts a process for an attack, and is that process                               (attacker.go)
//	honest   during each attack: a ping-pong on a tunnel, new connections of the tunnel, and
//	         paths of a member that connects for the first time                            (honest.go)
//	attacks  outsiders (outsider.go), members (member.go, flows.go), a hub (hub.go, liar.go)
//	table    a row for each attack: what was tried and let in, latency, memory, processor
//	         time of the hub and the exit, bytes of log                                       (table.go)
//
// It exits with status 1 if an attacker was let in, if an honest new path or connection failed or took more than a second, if the
// ping-pong took more than twice its usual time (by medians, in one run or the middle of three), or if a process grew by more than its
// bound; also if an attacker did not come to it. Everything is on loopback and ends by itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"ztm/scripts/process"
)

func main() { os.Exit(process.Main("hostile", command)) }

// attack is one way of misbehaving.
type attack struct {
	who  string // outsider, member or hub
	name string
	run  func(ctx context.Context, m *mesh) (tally, error) // until ctx ends; an error is one of this program
}

// tally is what an attacker has seen of it.
type tally struct {
	Tried int    `json:"tried"`
	LetIn int    `json:"letIn"` // what should have been refused and was not
	Note  string `json:"note"`  // for the table
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hostile", flag.ContinueOnError)
	length := flags.Duration("for", 20*time.Second, "how long each attack lasts")
	only := flags.String("only", "", "only the attacks whose `NAMES` contain one of these, with commas between")
	binary := flags.String("ztm", "", "the ztm `BINARY` to attack; empty: build it")
	out := flags.String("json", "", "write the rows to `FILE`, too")
	role := flags.String("attack", "", "be the attacker of the attack of this `NAME`; the standard input says on what")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *role != "" {
		return beAttacker(ctx, *role, *length, os.Stdin, os.Stdout)
	}
	return process.InScratch(ctx, "hostile", *binary, func(dir, ztm string) error {
		rows, err := attackAll(ctx, dir, ztm, chosen(*only), *length)
		if err != nil {
			return err
		}
		if err := process.WriteJSON(*out, rows); err != nil {
			return err
		}
		return verdict(rows)
	})
}

// chosen are the attacks whose names contain one of the words of a list; all of them for an empty one.
func chosen(only string) []attack {
	all := slices.Concat(outsiders, members, hubs)
	if only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(a attack) bool {
		return !slices.ContainsFunc(strings.Split(only, ","), func(word string) bool { return strings.Contains(a.who+" "+a.name, word) })
	})
}

// attackAll runs the attacks one after the other, each against a mesh of its own, so that no row is of what an earlier attack has left.
func attackAll(ctx context.Context, dir, binary string, attacks []attack, length time.Duration) ([]row, error) {
	var rows []row
	printHead()
	for i, a := range attacks {
		r, err := sure(ctx, filepath.Join(dir, fmt.Sprint("mesh-", i)), binary, a, length)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", a.name, err)
		}
		r.print()
		rows = append(rows, r)
	}
	return rows, nil
}

// sure is one, or the middle of three where the ping-pong alone breaks its bound: a machine that others use has slow moments.
func sure(ctx context.Context, dir, binary string, a attack, length time.Duration) (row, error) {
	var rows []row
	for len(rows) < 3 {
		r, err := one(ctx, fmt.Sprint(dir, "-", len(rows)), binary, a, length)
		if err != nil {
			return r, err
		}
		rows = append(rows, r)
		if faults := r.faults(); len(rows) == 1 && (len(faults) != 1 || !r.slow()) {
			return r, nil
		}
	}
	r := middle(rows)
	r.Note = strings.TrimPrefix(r.Note+", the middle of three", ", ")
	return r, nil
}

// one makes a mesh, watches the honest pair at rest, then during an attack, and then what is left of it.
func one(ctx context.Context, dir, binary string, a attack, length time.Duration) (row, error) {
	m, err := newMesh(ctx, dir, binary)
	if err != nil {
		return row{}, err
	}
	defer m.end()
	r := row{Who: a.who, Name: a.name}
	if r.Usual, err = m.watch(ctx, length/4, nil); err != nil {
		return row{}, err
	}
	before := m.sizes()
	used := m.processorTime()
	attacking, stop := context.WithTimeout(ctx, length)
	defer stop()
	type end struct {
		t   tally
		err error
	}
	ended := make(chan end, 1)
	go func() { // ends with the attack; awaited below
		t, err := m.attacked(ctx, a, length)
		ended <- end{t, err}
	}()
	peak := before
	r.During, err = m.watch(attacking, length, func() { peak = peak.most(m.sizes()) })
	r.Used = m.processorTime().minus(used)
	stop()
	e := <-ended
	if err = firstError(err, e.err); err != nil {
		return row{}, err
	}
	r.Tried, r.LetIn, r.Note = e.t.Tried, e.t.LetIn, e.t.Note
	r.Grown = peak.minus(before)
	rest := time.NewTimer(settling)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		return row{}, ctx.Err()
	}
	r.Left = m.sizes().minus(before)
	return r, nil
}

// settling is how long after an attack its traces may take to go.
const settling = 5 * time.Second

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
