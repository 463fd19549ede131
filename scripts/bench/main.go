// Command bench measures ztm beside the limit of the machine, in one run: three plain splice hops, the same with the outer two
// sealing, and a direct connection, and frp and chisel where they are installed. Ratios are the result; absolute figures depend on the machine.
//
//	scripts/bench/run [-quick] [-json FILE] [-rows throughput,latency,...]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"ztm/scripts/bench/load"
	"ztm/scripts/process"
)

// run is one run of the benchmark.
type run struct {
	process.Group
	self   string // this program
	ztm    string
	server string // address of the load server
	quick  bool
	rows   []string // which groups; empty: all
	result []row
	errs   []error // failures of what is ours: the run goes on, and its exit status says so
}

// plainHops is the path that ratios are made with.
const plainHops = "plain hops"

// peers are the paths of others: a row that they fail says so, and the run has not failed.
var peers = []string{"frp stcp+tls", "chisel"}

// row is one measurement: for each path a value, or why there is none.
type row struct {
	Name   string             `json:"name"`
	Unit   string             `json:"unit"`
	Values map[string]float64 `json:"values"`
	Failed map[string]string  `json:"failed,omitempty"`
	Goal   string             `json:"goal,omitempty"`
	Ratio  float64            `json:"ratio,omitempty"` // ztm against the three plain hops
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		ln, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		return load.Serve(ln)
	case len(args) == 3 && slices.Contains([]string{"hop", "sealed-entrance", "sealed-exit"}, args[0]):
		ln, err := net.Listen("tcp", args[1])
		if err != nil {
			return err
		}
		switch args[0] {
		case "sealed-entrance":
			return hop(ln, args[2], sealInto, openInto)
		case "sealed-exit":
			return hop(ln, args[2], openInto, sealInto)
		}
		return hop(ln, args[2], plain, plain)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	r := &run{}
	flags.BoolVar(&r.quick, "quick", false, "a tenth of the bytes and of the time")
	out := flags.String("json", "bench.json", "write the rows to `FILE`; empty: nowhere")
	rows := flags.String("rows", "", "only these `GROUPS`: throughput, connections, latency, firstbyte, far, cpu, memory, idle")
	binary := flags.String("ztm", "", "the ztm `BINARY` to measure; empty: build it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rows != "" {
		r.rows = strings.Split(*rows, ",")
	}
	r.ztm = *binary
	if err := r.measure(ctx); err != nil {
		return err
	}
	return errors.Join(append(r.errs, r.save(*out))...)
}

// save writes the rows to a file, if there is one to write to.
func (r *run) save(file string) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(r.result, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

func (r *run) measure(ctx context.Context) (err error) {
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if r.Dir, err = os.MkdirTemp("", "ztm-bench."); err != nil {
		return err
	}
	defer os.RemoveAll(r.Dir)
	defer r.End(8 * time.Second)
	if r.ztm, err = process.Ztm(ctx, r.ztm, r.Dir); err != nil {
		return err
	}
	r.server = process.FreeAddress()
	if _, err := r.Start("server", r.self, "serve", r.server); err != nil {
		return err
	}
	if err := process.Until(ctx, "the load server", 10*time.Second, listens(r.server)); err != nil {
		return err
	}
	paths := []*path{{name: "direct", address: r.server}}
	hops, _, err := r.hopsPath(ctx, plainHops, false, 0)
	if err != nil {
		return err
	}
	sealed, _, err := r.hopsPath(ctx, "sealed hops", true, 0)
	if err != nil {
		return err
	}
	ours, _, err := r.ztmPath(ctx, "ztm", 0, false)
	if err != nil {
		return err
	}
	paths = append(paths, hops, sealed, ours)
	if err := r.works(ctx, ours); err != nil {
		return err
	}
	for _, other := range []func(context.Context) (*path, error){r.frpPath, r.chiselPath} {
		p, err := other(ctx)
		switch {
		case err != nil:
			fmt.Println("a peer does not start, and is left out:", err)
		case p != nil:
			paths = append(paths, p)
		}
	}
	return r.all(ctx, paths)
}

// works waits until a path echoes.
func (r *run) works(ctx context.Context, p *path) error {
	return process.Until(ctx, p.name, 20*time.Second, func() error {
		_, err := load.FirstByte(ctx, p.address)
		return err
	})
}

func (r *run) wants(group string) bool { return len(r.rows) == 0 || slices.Contains(r.rows, group) }

// columns are the paths in the order in which a row is printed.
var columns = []string{"direct", plainHops, "sealed hops", "ztm", "one connection", "frp stcp+tls", "chisel"}

// add prints a row at once: a run takes minutes.
func (r *run) add(name, unit, goal string, f figures) {
	out := row{Name: name, Unit: unit, Goal: goal, Values: f.value, Failed: f.failed}
	if limit, ours := f.value[plainHops], f.value["ztm"]; limit > 0 && ours > 0 {
		out.Ratio = ours / limit
	}
	r.result = append(r.result, out)
	fmt.Printf("%-44s", name)
	for _, p := range columns {
		if why, ok := f.failed[p]; ok {
			fmt.Printf("  %s failed: %s;", p, why)
			if !slices.Contains(peers, p) {
				r.errs = append(r.errs, fmt.Errorf("%s: %s: %s", name, p, why))
			}
		} else if v, ok := f.value[p]; ok {
			fmt.Printf("  %s %.4g", p, v)
		}
	}
	fmt.Printf(" %s", unit)
	if out.Ratio > 0 {
		fmt.Printf("  ratio %.2f", out.Ratio)
	}
	if goal != "" {
		fmt.Printf("  (goal %s)", goal)
	}
	fmt.Println()
}
