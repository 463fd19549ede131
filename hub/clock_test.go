package hub

import (
	"slices"
	"testing"
	"time"

	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/unixtime"
)

const day = 24 * time.Hour

// ahead is an option: the hub's clock shows a later time than is.
func ahead(d time.Duration) func(*Config) {
	return func(c *Config) { c.clock = time.Now().Add(d) }
}

func TestAClockThatWasYearsAheadOnceLeavesNoTrace(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ahead   time.Duration
		options []func(*Config)
	}{
		{"ten years, with the root permit at hand", 10 * 365 * day, nil},
		{"four years, with the CA key", 4 * 365 * day, []func(*Config){keepCA}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			h := startIn(t, dir, tt.options...)
			bob := h.device("bob")
			if err := bob.put(bob.session(), bob.record("laptop")); err != nil {
				t.Fatal(err)
			}
			h.stop()

			for range 2 {
				h = startIn(t, dir, append(slices.Clone(tt.options), ahead(tt.ahead), func(c *Config) { c.tidy = time.Millisecond })...)
				bob.hub = h
				if h.try(bob.config(tunnel.ControlProto)) == nil {
					t.Error("a hub whose clock is years ahead takes a certificate of today")
				}
				h.stop()
			}

			h = startIn(t, dir, tt.options...)
			bob.hub = h
			s, err := bob.dial()
			if err != nil {
				t.Fatalf("after the clock was set right: %v", err)
			}
			defer s.Close()
			if got := names(t, s); !slices.Equal(got, []string{"laptop"}) {
				t.Errorf("the directory has %q", got)
			}
		})
	}
}

// floor returns the time that a hub which has ended keeps as past.
func floor(t *testing.T, dir string, change func(*state.Self)) time.Time {
	t.Helper()
	st, err := state.Open(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Change(change); err != nil {
		t.Fatal(err)
	}
	me, _, err := st.Self()
	if err != nil {
		t.Fatal(err)
	}
	return me.Seen.Time()
}

func TestATimeIsPastForTheHubOnlyIfAMemberProvesIt(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	startIn(t, dir).stop()
	was := start.Add(-30 * day).Truncate(time.Second)
	floor(t, dir, func(me *state.Self) { me.Seen = unixtime.Of(was) })
	keep := func(*state.Self) {}
	often := func(c *Config) { c.tidy = time.Millisecond }

	startIn(t, dir, often).stop()
	if got := floor(t, dir, keep); !got.Equal(was) {
		t.Errorf("without a member the floor rose to %v", got)
	}

	eventually(t, "the floor rises when a member was there", func() bool {
		h := startIn(t, dir, often, ahead(60*day))
		names(t, h.device("bob").session())
		h.stop()
		return floor(t, dir, keep).After(was)
	})
	if got := floor(t, dir, keep); got.After(time.Now().Add(8 * day)) {
		t.Errorf("a clock that is 60 days ahead made a floor of %v", got)
	}
}
