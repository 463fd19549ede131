package balance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = errors.New("refused")

// try tries once, with an outcome, and reports whether it was let.
func try(f *Failures, outcome error) bool {
	done, err := f.Try("x")
	if err != nil {
		return false
	}
	done(outcome)
	return true
}

func TestClientInALoopTriesWhatFailsOnlyNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Failures
		tries := 0
		for range 12_000 { // a minute at 200 a second
			if try(&f, errRefused) {
				tries++
			}
			<-time.After(5 * time.Millisecond)
		}
		if tries < 20 || tries > 40 {
			t.Errorf("%d tries in a minute, want one in %v and a few more at first", tries, holdMax)
		}
		if _, err := f.Try("other"); err != nil {
			t.Errorf("another one is not tried: %v", err)
		}
	})
}

func TestOneFailureHoldsUpNobody(t *testing.T) {
	var f Failures
	if !try(&f, errRefused) || !try(&f, nil) || !try(&f, errRefused) || !try(&f, nil) {
		t.Error("a try after a single failure was not let")
	}
}

func TestOnlyOneTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Failures
		try(&f, errRefused)
		try(&f, errRefused)
		if _, err := f.Try("x"); !errors.Is(err, errRefused) {
			t.Errorf("right after two failures: %v", err)
		}
		<-time.After(holdMin)
		done, err := f.Try("x")
		if err != nil {
			t.Fatalf("after %v: %v", holdMin, err)
		}
		if try(&f, nil) {
			t.Error("a second one tried meanwhile")
		}
		done(context.Canceled) // says nothing
		for range 2 {
			if !try(&f, nil) {
				t.Error("after a cancellation or a success it is held up")
			}
		}
	})
}

func TestOldFailuresAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Failures
		for range 20 {
			try(&f, errRefused)
			<-time.After(holdMax)
		}
		<-time.After(forgetAfter + time.Second)
		for range 2 {
			if !try(&f, errRefused) {
				t.Error("it was held up for what was long ago")
			}
		}
	})
}

func TestFailuresAreBounded(t *testing.T) {
	var f Failures
	for i := range 2 * maxFailures {
		done, _ := f.Try(fmt.Sprint(i))
		done(errRefused)
	}
	if len(f.items) > maxFailures {
		t.Errorf("%d failures are remembered", len(f.items))
	}
}
