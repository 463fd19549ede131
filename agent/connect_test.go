package agent

import (
	"testing"
	"time"
)

func TestRequestsDoNotWaitForAHubThatIsAwayForLong(t *testing.T) {
	lost := time.Unix(1e9, 0)
	for _, test := range []struct{ after, want time.Duration }{
		{0, sessionGap},
		{time.Second, sessionGap - time.Second},
		{sessionGap, sessionLull},
		{time.Hour, sessionLull},
		{-time.Hour, sessionGap}, // the clock was set back
	} {
		if got := sessionWait(lost, lost.Add(test.after)); got != test.want {
			t.Errorf("%v after the loss a request waits %v, want %v", test.after, got, test.want)
		}
	}
}
