package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestWhoIsRefusedLearnsARefAndTheOwnerTheReason(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.write("x.sh", "true\n")
	lines := func() int { return strings.Count(w.ztm("bob", "log", "ep"), string(w.endpoint("ep-root").ID)) }
	words := regexp.MustCompile(`not allowed \(ref ([0-9a-f]{6})\): ask the owner of ep-bob`)
	refs := map[string]string{}
	for _, command := range []string{"nc ep-bob 127.0.0.1:1", "nc ep-bob 127.0.0.1:2", "file ls ep-bob:/etc", "file ls ep-bob:/nothing",
		"terminal attach ep-bob", "script --ep=ep-bob -- " + w.path("x.sh")} {
		before := lines()
		_, errs, status := w.try("root", strings.Fields(command)...)
		ref := words.FindStringSubmatch(errs)
		if status == 0 || ref == nil {
			t.Errorf("ztm %s: status %d, %q", command, status, errs)
			continue
		}
		refs[command] = ref[1]
		if log := w.ztm("bob", "log", "ep"); !strings.Contains(log, ref[1]) {
			t.Errorf("ztm %s: ref %s is not in the owner's log", command, ref[1])
		}
		if n := lines() - before; n != 1 && (n > 1 || command != "file ls ep-bob:/nothing") { // which has the ref of /etc
			t.Errorf("ztm %s: the owner's log has %d lines about it", command, n)
		}
		w.until("the audit log has it by its ref", func() error {
			if found := w.audit("bob", "--ref", ref[1]); len(found) == 0 || found[0].Ref != ref[1] || found[0].User != "root" {
				return fmt.Errorf("ztm %s: %+v", command, found)
			}
			return nil
		})
	}
	if _, errs, _ := w.try("root", "nc", "ep-bob", "127.0.0.1:1"); !strings.Contains(errs, refs["nc ep-bob 127.0.0.1:1"]) {
		t.Errorf("the same question has another ref than %s: %q", refs["nc ep-bob 127.0.0.1:1"], errs)
	}
	if refs["nc ep-bob 127.0.0.1:1"] == refs["nc ep-bob 127.0.0.1:2"] {
		t.Error("two questions have the same ref")
	}
}
