package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestWhoIsRefusedLearnsARefAndTheOwnerTheReason(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	words := regexp.MustCompile(`not allowed \(ref ([0-9a-f]{6})\): ask the owner of ep-bob`)
	refs := map[string]string{}
	for _, command := range []string{"nc ep-bob 127.0.0.1:1", "nc ep-bob 127.0.0.1:2", "file ls ep-bob:/etc", "file ls ep-bob:/nothing"} {
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
	}
	if _, errs, _ := w.try("root", "nc", "ep-bob", "127.0.0.1:1"); !strings.Contains(errs, refs["nc ep-bob 127.0.0.1:1"]) {
		t.Errorf("the same question has another ref than %s: %q", refs["nc ep-bob 127.0.0.1:1"], errs)
	}
	if refs["nc ep-bob 127.0.0.1:1"] == refs["nc ep-bob 127.0.0.1:2"] {
		t.Error("two questions have the same ref")
	}
}
