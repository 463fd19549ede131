//go:build linux

package main

import (
	"errors"
	"path/filepath"
	"testing"

	"ztm/scripts/process"
)

// TestRealFilesSurviveWhatHappensToThem is the short run of all trials.
func TestRealFilesSurviveWhatHappensToThem(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	dir := t.TempDir()
	ztm, err := process.Ztm(t.Context(), "", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, trial := range trials {
		t.Run(trial.name, func(t *testing.T) {
			t.Parallel()
			err := one(t.Context(), filepath.Join(dir, trial.name), ztm, trial, plan{rounds: 5, size: 20 << 20, files: 1000, huge: 300 << 20})
			if out := missing(""); errors.As(err, &out) {
				t.Skip(out)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
