package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/agent/api"
)

func TestAHubToWhichTwoAddressesLeadIsListedOnce(t *testing.T) {
	attached := api.Hub{ID: "a", Address: "hub:1", Names: []string{"hub:1"}, Status: api.Attached, Connected: true}
	proxy := api.Hub{ID: "a", Address: "proxy:443", Status: api.HubStandby}
	other := api.Hub{ID: "b", Address: "other:1", Names: []string{"other:1"}, Status: api.HubStandby}
	lost, gone := api.Hub{Address: "lost:1", Status: api.Unreachable}, api.Hub{Address: "gone:1", Status: api.Unreachable}
	both := attached
	both.Names = []string{"hub:1", "proxy:443"}
	for name, tt := range map[string]struct{ all, want []api.Hub }{
		"after it":             {[]api.Hub{attached, other, proxy}, []api.Hub{both, other}},
		"before it":            {[]api.Hub{proxy, lost, attached, gone, other}, []api.Hub{both, lost, gone, other}},
		"and neither answers":  {[]api.Hub{lost, gone}, []api.Hub{lost, gone}},
		"and none is a second": {[]api.Hub{attached, other}, []api.Hub{attached, other}},
	} {
		if diff := cmp.Diff(tt.want, eachOnce(tt.all)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

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

func TestASessionWithAHubThatBeginsInANetworkThatWasLeftIsReplaced(t *testing.T) {
	m, _, _ := rootMesh(t, 1)
	old := hubSession(m)
	m.control.Left(netip.MustParseAddr("127.0.0.2"))
	select {
	case <-old.Done():
		t.Error("one of another address ends")
	default:
	}
	m.control.Left(netip.MustParseAddr("127.0.0.1"))
	<-old.Done()
	until(t, "there is another", func() bool {
		s, _, err := m.control.Session(t.Context())
		return err == nil && s != old
	})
}
