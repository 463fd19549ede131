package main

import (
	"testing"

	"ztm/scripts/process"
)

func TestAKilledAgentLeavesOneVersionOrTheOther(t *testing.T) {
	err := process.InScratch(t.Context(), "kill", "", func(dir, ztm string) error { return run(t.Context(), dir, ztm, 5, 20<<20) })
	if err != nil {
		t.Fatal(err)
	}
}
