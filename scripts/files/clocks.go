//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"ztm/scripts/process"
)

// years is when it is, for whom.
var years = map[string]time.Time{
	"past":   time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC),
	"now":    time.Now(),
	"future": time.Date(2038, 1, 20, 0, 0, 0, 0, time.UTC),
}

// clocks has three agents with wrong clocks edit the same files while no hub runs. When they meet again all have the same files, nothing
// that somebody wrote is lost, and an edit wins over a deletion, whoever's clock says what.
func clocks(w *world, _ plan) error {
	if !process.CanSetClocks() {
		return missing("the clock of one process cannot be set on this machine")
	}
	agents := []string{"past", "now", "future"}
	if err := w.start(agents...); err != nil {
		return err
	}
	if err := w.mirror(agents...); err != nil {
		return err
	}
	for _, path := range []string{"edited by all", "deleted by past", "deleted by future"} {
		if err := w.write("now", path, "the first version"); err != nil {
			return err
		}
	}
	if err := w.inStep(agents...); err != nil {
		return err
	}
	for _, name := range agents {
		if err := process.SetClock(w.agents[name], time.Until(years[name])); err != nil {
			return err
		}
	}
	w.hub.End(10 * time.Second)
	if err := w.editApart(agents); err != nil {
		return err
	}
	if err := w.runHub(); err != nil {
		return err
	}
	// No certificate lasts until 2038: that clock has to be set before its agent can meet others. It need not be right.
	if err := process.SetClock(w.agents["future"], time.Until(time.Now().AddDate(0, 6, 0))); err != nil {
		return err
	}
	if err := w.until("they meet", func() error { return w.met(agents) }); err != nil {
		return err
	}
	return w.copies(agents)
}

// editApart changes files at each agent, as its clock has the time, and waits until each has seen that.
func (w *world) editApart(agents []string) error {
	for _, name := range agents {
		for _, path := range []string{"edited by all", "new at all", "made by " + name, "deleted by past", "deleted by future"} {
			if strings.HasPrefix(path, "deleted by") && (name == "now" || path == "deleted by "+name) {
				continue
			}
			if err := w.write(name, path, path+" from "+name); err != nil {
				return err
			}
			if err := os.Chtimes(w.at(name, "docs/"+path), years[name], years[name]); err != nil {
				return err
			}
		}
		if name != "now" {
			if err := os.Remove(w.at(name, "docs/deleted by "+name)); err != nil {
				return err
			}
		}
	}
	for _, name := range agents {
		err := w.until(name+" has seen its edits", func() error {
			out, err := w.ask(name, "cloud", "ls", "docs", "--offline", "-o", "json")
			if err == nil && (!strings.Contains(out, "made by "+name) || strings.Contains(out, `"changed"`) || strings.Contains(out, `"new"`)) {
				err = errors.New(out)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// met returns nil if all agents have the same files, and in these all that was written.
func (w *world) met(agents []string) error {
	for _, name := range agents[1:] {
		if err := same(w.at(agents[0], "docs"), w.at(name, "docs")); err != nil {
			return err
		}
	}
	all, err := contentsOf(w.at("now", "docs"))
	if err != nil {
		return err
	}
	var have [][sha256.Size]byte
	for _, sum := range all {
		have = append(have, sum)
	}
	for _, name := range agents {
		for _, path := range []string{"edited by all", "new at all", "made by " + name} {
			if !slices.Contains(have, sha256.Sum256([]byte(path+" from "+name))) {
				return fmt.Errorf("%q of %s is nowhere", path, name)
			}
		}
	}
	for path, by := range map[string]string{"deleted by past": "future", "deleted by future": "past"} {
		if all[path] != sha256.Sum256([]byte(path+" from "+by)) {
			return fmt.Errorf("%q does not have the edit of %s", path, by)
		}
	}
	if most := 2 + 3 + 3 + 3; len(all) != most {
		return fmt.Errorf("there are %d files and not %d", len(all), most)
	}
	return nil
}

// copies copies a file from each agent to the next, and by the cloud to all.
func (w *world) copies(agents []string) error {
	for i, name := range agents {
		next := agents[(i+1)%len(agents)]
		from := w.path("a file of " + name)
		content := strings.Repeat("line of "+name+"\n", 100_000)
		if err := errors.Join(os.WriteFile(from, []byte(content), 0o600), os.Chtimes(from, years[name], years[name])); err != nil {
			return err
		}
		to := w.path("at " + next)
		if err := w.say(name, "file", "cp", from, next+":"+to); err != nil {
			return err
		}
		if st, err := os.Stat(to); err != nil || st.ModTime().Unix() != years[name].Unix() {
			return fmt.Errorf("the time of the copy: %v, %w", st, err)
		}
		if err := w.say(name, "cloud", "upload", from); err != nil {
			return err
		}
		for _, reader := range agents {
			if err := w.until(reader+" fetches it", func() error { return w.say(reader, "cloud", "download", "a file of "+name) }); err != nil {
				return err
			}
			for _, copied := range []string{to, w.at(reader, "a file of "+name)} {
				if sum, err := sumOf(copied); err != nil || sum != sha256.Sum256([]byte(content)) {
					return fmt.Errorf("%s is another file, %w", copied, err)
				}
			}
		}
	}
	return nil
}
