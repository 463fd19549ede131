package control

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func keys(list []*candidate) (out []string) {
	for _, c := range list {
		out = append(out, c.key)
	}
	return out
}

// chosen are the hubs that get the two sessions of an endpoint.
func chosen(self string, all []*candidate) []string {
	return keys(rank(self, slices.Clone(all)))[:min(2, len(all))]
}

func TestWhichHubsAreWantedFirst(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		all  []*candidate
		want []string // those whose order the hash does not decide
	}{
		"none":                                {nil, nil},
		"one":                                 {[]*candidate{{key: "a", failed: true}}, []string{"a"}},
		"a failed one is last":                {[]*candidate{{key: "a", failed: true}, {key: "b", rtt: time.Second}}, []string{"b", "a"}},
		"a draining one before a failed one":  {[]*candidate{{key: "a", failed: true}, {key: "b", draining: true}, {key: "c"}}, []string{"c", "b", "a"}},
		"an address after a hub":              {[]*candidate{{key: "x:1", addressOnly: true}, {key: "b", rtt: time.Second}}, []string{"b", "x:1"}},
		"a far one after a near one":          {[]*candidate{{key: "a", rtt: 40 * ms}, {key: "b", rtt: 20 * ms}}, []string{"b", "a"}},
		"far ones by their round trip":        {[]*candidate{{key: "a", rtt: 90 * ms}, {key: "b", rtt: 1 * ms}, {key: "c", rtt: 50 * ms}}, []string{"b", "c", "a"}},
		"another zone, though it is far":      {[]*candidate{{key: "a", rtt: 1 * ms, zone: "x", weight: 1000}, {key: "b", rtt: 2 * ms, zone: "x"}, {key: "c", rtt: 99 * ms, zone: "y"}}, []string{"a|b", "c", "a|b"}},
		"not another zone that failed":        {[]*candidate{{key: "a", rtt: 1 * ms, zone: "x"}, {key: "b", rtt: 99 * ms, zone: "x"}, {key: "c", zone: "y", failed: true}}, []string{"a", "b", "c"}},
		"the nearer of those in another zone": {[]*candidate{{key: "a", rtt: 1 * ms, zone: "x"}, {key: "b", rtt: 99 * ms, zone: "y"}, {key: "c", rtt: 30 * ms, zone: "z"}}, []string{"a", "c", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := keys(rank("self", slices.Clone(tt.all)))
			if len(got) != len(tt.want) {
				t.Fatalf("%v", got)
			}
			for i := range got {
				if got[i] != tt.want[i] && !(len(tt.want[i]) > 2 && slices.Contains([]string{"a", "b"}, got[i])) {
					t.Errorf("%v, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestHubsWithinReachOfTheBestAreAsGoodAsIt(t *testing.T) {
	for _, tt := range []struct {
		least, rtt time.Duration // milliseconds
		near       bool
	}{{1, 11, true}, {1, 12, false}, {40, 60, true}, {40, 61, false}, {15, 25, true}, {15, 26, false}} {
		if got := nearly(tt.rtt*time.Millisecond, tt.least*time.Millisecond); got != tt.near {
			t.Errorf("%d ms beside %d ms: near is %v", tt.rtt, tt.least, got)
		}
	}
}

const endpoints = 3000

// someHubs are n hubs in zones.
func someHubs(n, zones int) (out []*candidate) {
	for i := range n {
		out = append(out, &candidate{key: fmt.Sprintf("hub-%d", i), zone: fmt.Sprintf("zone-%d", i%zones), rtt: time.Duration(1+i%5) * time.Millisecond})
	}
	return out
}

func TestEndpointsDivideThemselvesEvenly(t *testing.T) {
	for n := 2; n <= 7; n++ {
		for _, zones := range []int{1, n} {
			first, both := map[string]int{}, map[string]int{}
			for i := range endpoints {
				two := chosen(fmt.Sprint("ep", i), someHubs(n, zones))
				first[two[0]]++
				both[two[0]]++
				both[two[1]]++
			}
			for what, counts := range map[string]map[string]int{"first": first, "both": both} {
				least, most := endpoints, 0
				for _, c := range someHubs(n, zones) {
					least, most = min(least, counts[c.key]), max(most, counts[c.key])
				}
				if float64(most) > 1.5*float64(least) {
					t.Errorf("%d hubs in %d zones, %s: from %d to %d", n, zones, what, least, most)
				}
			}
		}
	}
}

func TestAHubGetsItsShareByWeight(t *testing.T) {
	count := map[string]int{}
	for i := range endpoints {
		count[chosen(fmt.Sprint("ep", i), []*candidate{{key: "small", weight: 1}, {key: "large", weight: 3}})[0]]++
	}
	if share := float64(count["large"]) / endpoints; share < 0.70 || share > 0.80 {
		t.Errorf("a hub of three quarters of the weight is first for %.2f of all", share)
	}
}

func TestAHubThatComesOrGoesMovesItsOwnShareAlone(t *testing.T) {
	for n := 3; n <= 7; n++ {
		for _, zones := range []int{1, 2, n} {
			all := someHubs(n, zones)
			gone := rand.N(n)
			fewer := slices.Delete(slices.Clone(all), gone, gone+1)
			moved := 0
			for i := range endpoints {
				self := fmt.Sprint("ep", i)
				with, without := chosen(self, all), chosen(self, fewer)
				if !slices.Contains(with, all[gone].key) {
					if !slices.Equal(with, without) {
						t.Fatalf("%d hubs in %d zones: %v became %v without %s", n, zones, with, without, all[gone].key)
					}
					continue
				}
				moved++
				for _, kept := range with {
					if kept != all[gone].key && !slices.Contains(without, kept) {
						t.Fatalf("%d hubs in %d zones: %v became %v: more than one session moved", n, zones, with, without)
					}
				}
			}
			if zones != 2 && float64(moved) > 2.3*endpoints/float64(n) {
				t.Errorf("%d hubs in %d zones: %d of %d endpoints moved", n, zones, moved, endpoints)
			}
		}
	}
}

func TestOneFailingHubDoesNotSendAllToTheSame(t *testing.T) {
	all := someHubs(4, 1)
	all[2].failed = true
	heirs := map[string]int{}
	for i := range endpoints {
		self := fmt.Sprint("ep", i)
		if with := chosen(self, someHubs(4, 1)); with[0] == "hub-2" {
			heirs[chosen(self, all)[0]]++
		}
	}
	if len(heirs) != 3 || heirs["hub-0"] < endpoints/20 || heirs["hub-1"] < endpoints/20 || heirs["hub-3"] < endpoints/20 {
		t.Errorf("the endpoints of a hub that failed went to %v", heirs)
	}
}
