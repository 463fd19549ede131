package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestWhatListsPrintsAnArray holds one rule for programs that read what a command prints: what help calls
// a list is an array, also where there is nothing.
func TestWhatListsPrintsAnArray(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	args := map[string]string{"can": "--at .", "file ls": ".", "kube ls": "."}
	lines := []string{"label", "log ep", "audit", "proxy rules", "file allow", "cloud mirror", "cloud download --list"}
	for _, cmd := range allCommands(t) {
		if name := strings.Join(cmd.words, " "); strings.HasPrefix(cmd.Usage, "list ") {
			lines = append(lines, name+" "+args[name])
		}
	}
	if len(lines) < 25 {
		t.Errorf("only %d commands list something", len(lines))
	}
	for _, line := range lines {
		out, errs, status := w.try("root", append(strings.Fields(line), "--output", "json")...)
		var list []json.RawMessage
		if err := json.Unmarshal([]byte(out), &list); status != 0 || err != nil || list == nil {
			t.Errorf("ztm %s --output json: status %d, %v: %s%s", line, status, err, out, errs)
		}
	}
}
