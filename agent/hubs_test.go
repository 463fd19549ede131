package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestADeviceThatLearnsTheTimeLaterIsNoOlderThanItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInstance()
		<-time.After(time.Minute)
		learnt := time.Now().Add(30 * 365 * 24 * time.Hour)
		if got := i.since(learnt); !got.Equal(learnt.Add(-time.Minute)) {
			t.Errorf("it began at %v, and it is %v", got, learnt)
		}
	})
}
