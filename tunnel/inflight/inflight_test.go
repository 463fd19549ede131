package inflight

import (
	"testing"

	"ztm/tunnel/limit"
)

func TestWhatRunsIsWaitedForAndNothingNewBegins(t *testing.T) {
	var tr Tracker
	hold := make(chan struct{})
	if !tr.Enter() || !tr.Go(func() { <-hold }) {
		t.Fatal("nothing may begin")
	}
	empty := tr.Close()
	if tr.Enter() || tr.Go(func() { t.Error("it runs") }) {
		t.Error("something began after the end")
	}
	tr.Leave()
	select {
	case <-empty:
		t.Fatal("what runs is not waited for")
	default:
	}
	close(hold)
	<-empty
	<-tr.Close()
}

func TestNoMoreOfAKindRunThanMay(t *testing.T) {
	var tr Tracker
	var kind, other limit.Counts[struct{}]
	hold := make(chan struct{})
	for i := range 3 {
		if ok := tr.GoUpTo(&kind, 2, func() { <-hold }); ok != (i < 2) {
			t.Errorf("number %d of two runs: %v", i+1, ok)
		}
	}
	if !tr.GoUpTo(&other, 2, func() {}) {
		t.Error("another kind waits for this one")
	}
	close(hold)
	<-tr.Close()
	if kind.Count(struct{}{}) != 0 || tr.GoUpTo(&kind, 2, func() {}) || kind.Count(struct{}{}) != 0 {
		t.Error("places are held by nothing")
	}
}
