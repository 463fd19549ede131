package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"ztm/agent/console"
	"ztm/agent/policy/file"
	"ztm/apps"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// commands holds the Actions of the commands.
type commands struct{ *console.Console }

// read reads a file; - is standard input.
func (c commands) read(name string) (*file.File, error) {
	b, err := apps.ReadInput(c.Stdin(), name, file.MaxFile)
	if err != nil {
		return nil, err
	}
	f, err := file.Read(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", apps.InputName(name), err)
	}
	return f, nil
}

// checked reads a file and runs its tests: what does not hold is an error.
func (c commands) checked(name string, old *policy.Source, now unixtime.Seconds) (*file.File, *policy.Source, error) {
	f, err := c.read(name)
	if err != nil {
		return nil, nil, err
	}
	s, err := f.Source(old, now)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if wrong := f.Run(s, now); len(wrong) > 0 {
		const most = 20
		more := ""
		if len(wrong) > most {
			more = fmt.Sprintf("\nand %d more", len(wrong)-most)
			wrong = wrong[:most]
		}
		return nil, nil, fmt.Errorf("%s: tests do not hold\n%s%s", name, strings.Join(wrong, "\n"), more)
	}
	if len(f.Tests) == 0 {
		c.Warn("%s has no tests: nothing says what it is to give, and what not", name)
	}
	return f, s, nil
}

// test checks a file, and compares it with another.
func (c commands) test(name, from string) error {
	now := unixtime.Of(time.Now())
	old := &policy.Source{}
	if from != "" {
		f, err := c.read(from)
		if err == nil {
			old, err = f.Source(nil, now)
		}
		if err != nil {
			return err
		}
	}
	f, s, err := c.checked(name, old, now)
	if err != nil {
		return err
	}
	if from == "" {
		r := result{len(f.Tests), len(s.Groups), len(s.Endpoints), len(s.Grants)}
		t := &apps.Table{}
		t.Add(fmt.Sprintf("%d tests hold; groups: %d, endpoints: %d, grants: %d", r.Tests, r.Groups, r.Endpoints, r.Grants))
		return c.Print(r, t)
	}
	return c.compare(old, s, now)
}

// compare prints who gains and loses what, the gains first.
func (c commands) compare(old, next *policy.Source, now unixtime.Seconds) error {
	d, err := file.Diff(old, next, now)
	if err != nil {
		return err
	}
	for _, w := range d.Warns {
		c.Warn("%s", w)
	}
	t := &apps.Table{Header: []string{"", "USER", "TARGET", "AT", "FROM", "GRANT", "UNTIL", "WAS"}}
	list(t, "+", d.Gains)
	list(t, "-", d.Losses)
	if len(t.Rows) == 0 {
		t.Header = nil
		t.Add("nobody gains or loses anything")
	}
	return c.Print(d, t)
}

// result is what a file has.
type result struct {
	Tests     int `json:"tests"`
	Groups    int `json:"groups"`
	Endpoints int `json:"endpoints"`
	Grants    int `json:"grants"`
}

// most is how many rows of a kind are shown to people.
const most = 50

func list(t *apps.Table, sign string, all []file.Change) {
	for i, ch := range all {
		if i == most {
			t.Add(sign, fmt.Sprintf("and %d more", len(all)-most))
			return
		}
		t.Add(sign, ch.User, ch.To, cmp.Or(ch.At, "-"), cmp.Or(ch.From, "-"), cmp.Or(ch.Grant, "-"), cmp.Or(ch.Until, "-"), cmp.Or(ch.Was, "-"))
	}
}
