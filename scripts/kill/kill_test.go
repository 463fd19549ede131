package main

import "testing"

func TestAKilledAgentLeavesOneVersionOrTheOther(t *testing.T) {
	if err := run(t.Context(), "", 5, 20<<20); err != nil {
		t.Fatal(err)
	}
}
