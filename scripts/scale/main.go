// Command scale connects thousands of agents to one hub and says what each costs it.
//
//	scripts/scale/run [-n 1000,10000] [-hubs 1] [-rounds 30s] [-rest 1m] [-ztm BINARY] [-json FILE]
//
// The hub is the real program. The agents are simulated, all in this process, by what the real agent is made of: TLS with a certificate
// and a key of their own, HTTP/2, a signed record, the events stream, the same way back after a loss. For each size it prints
//
//	connect   how many come online in a second, and what that costs the hub in processor time
//	memory    resident bytes of the hub for each
//	rest      what the hub uses of one core while nobody does anything
//	lookups   how many endpoints are found by name in a second
//	return    how long after the start of a new hub process half of them and all of them are back
//
// With -rounds it prints what direct paths that do not come about cost the hub: see rounds.go. With several hubs it prints what each of them costs, and how long after the loss of one all agents have two again: see several.go. It fails
// if an agent costs more of a hub the more of them there are.
//
// What grows faster than the number of agents shows as a column that grows downwards.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel/pause"
)

func main() { os.Exit(process.Main("scale", command)) }

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	sizes := flags.String("n", "1000,10000", "how many agents: a list")
	rest := flags.Duration("rest", time.Minute, "how long to watch the hub at rest")
	binary := flags.String("ztm", "", "the ztm `BINARY` to measure; empty: build it")
	hubs := flags.Int("hubs", 1, "how many hubs; of several, each agent has sessions with two, and one is lost")
	within := flags.Duration("rounds", 0, "have half of the agents begin a direct path with the other half within so long, and measure that alone")
	out := flags.String("json", "", "write the rows to `FILE`, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return process.InScratch(ctx, "scale", *binary, func(dir, ztm string) error {
		if *within > 0 {
			return rounds(ctx, dir, ztm, *sizes, *within)
		}
		if *hubs > 1 {
			return several(ctx, dir, ztm, *hubs, *sizes, *rest)
		}
		rows, err := measureAll(ctx, dir, ztm, *sizes, *rest)
		if err != nil {
			return err
		}
		return process.WriteJSON(*out, rows)
	})
}

// measureAll measures each of the sizes of a list, and prints a row of each.
func measureAll(ctx context.Context, dir, ztm, sizes string, rest time.Duration) (rows []row, err error) {
	fmt.Println(header)
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-n %q: want numbers with commas between", sizes)
		}
		r, err := measure(ctx, filepath.Join(dir, size), ztm, n, rest)
		if err != nil {
			return nil, err
		}
		fmt.Println(r)
		rows = append(rows, r)
	}
	return rows, nil
}

// row is what was measured with one number of agents. Durations are in seconds, sizes in bytes.
type row struct {
	Agents      int     `json:"agents"`
	Connects    float64 `json:"connectsPerSecond"`
	Failed      int64   `json:"failedAttempts"` // before all were online for the first time
	ConnectCPU  float64 `json:"hubSecondsPerConnect"`
	Memory      float64 `json:"hubBytesPerAgent"`
	MemoryRest  float64 `json:"hubBytesPerAgentAtRest"`
	Rest        float64 `json:"hubCoresAtRest"`
	Lookups     float64 `json:"lookupsPerSecond"`
	LookupCPU   float64 `json:"hubSecondsPerLookup"`
	Restart     float64 `json:"restartSeconds"`
	HalfBack    float64 `json:"halfBackSeconds"`
	AllBack     float64 `json:"allBackSeconds"`
	ReturnCPU   float64 `json:"hubSecondsPerReturn"`
	MemoryAfter float64 `json:"hubBytesPerAgentAfterReturn"`
}

const header = "agents  connect/s  failed  ms CPU  KB each  at rest  cores at rest  lookup/s  us CPU  restart  half back  all back  ms CPU"

func (r row) String() string {
	return fmt.Sprintf("%6d  %9.0f  %6d  %6.2f  %7.1f  %7.1f  %13.3f  %8.0f  %6.0f  %6.1fs  %8.1fs  %7.1fs  %6.2f", r.Agents, r.Connects, r.Failed, r.ConnectCPU*1e3,
		r.Memory/1e3, r.MemoryRest/1e3, r.Rest, r.Lookups, r.LookupCPU*1e6, r.Restart, r.HalfBack, r.AllBack, r.ReturnCPU*1e3)
}

const timeout = 30 * time.Second

// measure runs a hub with n agents from the first start to its second end.
func measure(ctx context.Context, dir, binary string, n int, rest time.Duration) (r row, err error) {
	h, err := newHub(dir, binary)
	if err != nil {
		return r, err
	}
	defer h.End(timeout)
	hub, err := h.start(ctx)
	if err != nil {
		return r, err
	}
	empty, _ := hub.Memory()
	crowd, err := newCrowd(h.permit, n)
	if err != nil {
		return r, err
	}
	defer crowd.leave()

	r.Agents = n
	perAgent := func(hub *process.Process) float64 {
		now, _ := hub.Memory()
		return float64(now-empty) / float64(n)
	}
	start, before := time.Now(), hub.CPU()
	if err := crowd.connect(ctx); err != nil {
		return r, err
	}
	r.Connects = float64(n) / time.Since(start).Seconds()
	if r.Failed = crowd.failed.Load(); r.Failed > 0 {
		fmt.Println("the last attempt that failed:", crowd.why.Load())
	}
	r.ConnectCPU = hub.CPU().Minus(before).All.Seconds() / float64(n)
	r.Memory = perAgent(hub)

	before = hub.CPU()
	if !pause.For(ctx, rest) {
		return r, ctx.Err()
	}
	r.Rest = hub.CPU().Minus(before).All.Seconds() / rest.Seconds()
	r.MemoryRest = perAgent(hub)

	start, before = time.Now(), hub.CPU()
	found, err := crowd.lookUp(ctx, 5*time.Second)
	if err != nil {
		return r, err
	}
	r.Lookups = float64(found) / time.Since(start).Seconds()
	r.LookupCPU = hub.CPU().Minus(before).All.Seconds() / float64(found)

	start = time.Now()
	hub.End(timeout)
	r.Restart = time.Since(start).Seconds()
	if err := process.Until(ctx, "all agents notice", timeout, func() error { return crowd.want(0) }); err != nil {
		return r, err
	}
	if hub, err = h.start(ctx); err != nil {
		return r, err
	}
	start = time.Now()
	if err := process.Until(ctx, "half of the agents are back", 10*time.Minute, func() error { return crowd.want(n / 2) }); err != nil {
		return r, err
	}
	r.HalfBack = time.Since(start).Seconds()
	if err := process.Until(ctx, "all agents are back", 10*time.Minute, func() error { return crowd.want(n) }); err != nil {
		return r, err
	}
	r.AllBack = time.Since(start).Seconds()
	r.ReturnCPU = hub.CPU().All.Seconds() / float64(n)
	r.MemoryAfter = perAgent(hub)
	return r, nil
}
