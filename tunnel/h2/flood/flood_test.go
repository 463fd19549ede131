package flood

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatWasSpentComesBackWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		n := 0
		for c.Spend(Fault) {
			n++
		}
		if n != most/Fault {
			t.Errorf("%d faults were allowed at once", n)
		}
		<-time.After(time.Second)
		for n = 0; c.Spend(Useless); n++ {
		}
		if n < perSecond-Fault || n > perSecond {
			t.Errorf("a second later %d frames were allowed", n)
		}
		<-time.After(time.Hour)
		for n = 0; c.Spend(Useless); n++ {
		}
		if n != most {
			t.Errorf("an hour later %d frames were allowed", n)
		}
	})
}

func TestAWindowMayBeGivenBackForEachKiBThatWasSent(t *testing.T) {
	c := New()
	for c.Update() { // those in advance
	}
	for range 10 {
		c.Sent(300)
	}
	for n := range 3 {
		if c.Update() != (n < 2) {
			t.Errorf("after 3000 bytes update %d is wrong", n)
		}
	}
}
