package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
)

// size is how large a binary has become, in bytes.
type size struct {
	target Target
	raw    int64
	xz     int64 // 0: not measured
}

// compressed returns the size of data after xz -9, or 0 where there is no xz.
func compressed(ctx context.Context, xz string, data []byte) (int64, error) {
	if xz == "" {
		return 0, nil
	}
	cmd := exec.CommandContext(ctx, xz, "-9", "--stdout")
	cmd.Stdin = bytes.NewReader(data)
	var n counter
	cmd.Stdout = &n
	err := cmd.Run()
	return int64(n), err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// printSizes writes the table that a release is announced with.
func printSizes(w io.Writer, sizes []size) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TARGET\tPROFILE\tBYTES\tXZ\tFOR")
	missing := false
	for _, s := range sizes {
		xz := "-"
		if s.xz > 0 {
			xz = strconv.FormatInt(s.xz, 10)
		} else {
			missing = true
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", s.target.Name, s.target.Profile, s.raw, xz, s.target.Reason)
	}
	if missing {
		fmt.Fprintln(t, "\n(XZ was not measured: xz is not installed, or -bare or -link was given)")
	}
	return t.Flush()
}

//go:embed budgets.txt
var budgetsFile string

// budget is the limit of one target in one profile, in bytes; 0 is no limit.
type budget struct {
	target  string
	profile Profile
	raw, xz int64
}

// parseBudgets reads the lines of budgets.txt.
func parseBudgets(text string) ([]budget, error) {
	var out []budget
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 4 {
			return nil, fmt.Errorf("budgets: %q: want target, profile, bytes, bytes after xz", line)
		}
		b := budget{target: f[0], profile: Profile(f[1])}
		for i, n := range []*int64{&b.raw, &b.xz} {
			if f[2+i] == "-" {
				continue
			}
			var err error
			if *n, err = strconv.ParseInt(f[2+i], 10, 64); err != nil {
				return nil, fmt.Errorf("budgets: %q: %w", line, err)
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// checkSizes returns an error for each binary that is over its budget, or that could not be
// measured.
func checkSizes(budgets []budget, sizes []size) error {
	var all error
	for _, b := range budgets {
		for _, s := range sizes {
			if s.target.Name != b.target || s.target.Profile != b.profile {
				continue
			}
			if b.raw > 0 && s.raw > b.raw {
				all = errors.Join(all, fmt.Errorf("%s, profile %s: %d bytes, %d more than its budget", b.target, b.profile, s.raw, s.raw-b.raw))
			}
			if b.xz > 0 && s.xz > b.xz {
				all = errors.Join(all, fmt.Errorf("%s, profile %s: %d bytes after xz, %d more than its budget", b.target, b.profile, s.xz, s.xz-b.xz))
			}
		}
	}
	return all
}
