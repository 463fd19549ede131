package lately

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAPathThatBecomesSlowerIsSeenAfterMinutesAndAFullOneIsNot(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		var trip Trip
		if trip.Least() != 0 {
			t.Errorf("before the first %v", trip.Least())
		}
		for _, step := range []struct{ after, took, want time.Duration }{
			{0, 10 * ms, 10 * ms},
			{time.Second, 300 * ms, 10 * ms}, // the path is full
			{time.Minute, 100 * ms, 10 * ms},
			{5 * time.Minute, 100 * ms, 10 * ms}, // what was less is not long ago
			{6 * time.Minute, 100 * ms, 100 * ms},
			{time.Minute, 20 * ms, 20 * ms}, // nearer is seen at once
			{24 * time.Hour, 50 * ms, 20 * ms},
			{24 * time.Hour, 50 * ms, 50 * ms},
		} {
			<-time.After(step.after)
			if trip.Add(step.took); trip.Least() != step.want {
				t.Errorf("%v after %v: %v, want %v", step.took, step.after, trip.Least(), step.want)
			}
		}
	})
}
