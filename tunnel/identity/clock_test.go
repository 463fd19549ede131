package identity

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// In a bubble it is midnight UTC on 1 January 2000.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestClockIsThatOfTheDeviceAboveTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(bubble.Add(-day), time.Time{})
		if got := c.Now(); !got.Equal(bubble) {
			t.Errorf("it is %v, want %v", got, bubble)
		}
	})
}

func TestClockThatIsBehindShowsTheHighestFloorAndMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(bubble.Add(day), bubble.Add(3*day), bubble.Add(2*day))
		if got, want := c.Now(), bubble.Add(3*day); !got.Equal(want) {
			t.Errorf("at first it is %v, want %v", got, want)
		}
		<-time.After(time.Hour)
		if got, want := c.Now(), bubble.Add(3*day+time.Hour); !got.Equal(want) {
			t.Errorf("an hour later it is %v, want %v", got, want)
		}
	})
}

func TestClockIsRaisedAndNeverLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock()
		steps := []struct {
			to, want time.Time
			changed  bool
		}{
			{time.Time{}, bubble, false},
			{bubble.Add(day), bubble.Add(day), true},
			{bubble.Add(day), bubble.Add(day), false},
			{bubble, bubble.Add(day), false},
			{bubble.Add(2 * day), bubble.Add(2 * day), true},
		}
		for _, s := range steps {
			if changed := c.Raise(s.to); changed != s.changed {
				t.Errorf("raise to %v: changed is %v", s.to, changed)
			}
			if got := c.Now(); !got.Equal(s.want) {
				t.Errorf("after a raise to %v it is %v, want %v", s.to, got, s.want)
			}
		}
	})
}

func TestClockMayBeRaisedByMany(t *testing.T) {
	c := NewClock()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c.Raise(start.Add(time.Duration(i) * day))
			c.Now()
		})
	}
	wg.Wait()
	if got, want := c.Now(), start.Add(49*day); got.Before(want) {
		t.Errorf("it is %v, want %v or later", got, want)
	}
}
