package balance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPoolOrdersItsChoices(t *testing.T) {
	choices := []string{"a", "b", "c"}
	first := func(p *Pool, b Policy, source string) string { return p.Order(b, choices, source)[0] }

	t.Run("round robin", func(t *testing.T) {
		var p Pool
		var got []string
		for range 6 {
			got = append(got, first(&p, "", ""))
		}
		if diff := cmp.Diff([]string{"a", "b", "c", "a", "b", "c"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("fewest flows", func(t *testing.T) {
		var p Pool
		p.Took("a")
		over := p.Took("b")
		p.Took("b")
		if got := first(&p, LeastConn, ""); got != "c" {
			t.Errorf("first is %s, want c which has none", got)
		}
		p.Took("c")
		p.Took("c")
		over()
		p.Took("a")
		if got := p.Order(LeastConn, choices, ""); got[0] != "b" {
			t.Errorf("the order is %v, want b first", got)
		}
	})
	t.Run("source", func(t *testing.T) {
		var p Pool
		counts := map[string]int{}
		for i := range 300 {
			source := fmt.Sprintf("192.0.2.%d", i)
			choice := first(&p, Source, source)
			counts[choice]++
			if again := first(&p, Source, source); again != choice {
				t.Fatalf("%s got %s, then %s", source, choice, again)
			}
			without := slices.DeleteFunc(slices.Clone(choices), func(c string) bool { return c == "c" })
			if moved := p.Order(Source, without, source)[0]; choice != "c" && moved != choice {
				t.Fatalf("%s moved from %s to %s though only c went", source, choice, moved)
			}
		}
		if len(counts) != 3 || counts["a"] < 50 || counts["b"] < 50 || counts["c"] < 50 {
			t.Errorf("300 sources are spread as %v", counts)
		}
	})
	t.Run("failed ones come last", func(t *testing.T) {
		var p Pool
		p.Failed("a", errors.New("x"))
		p.Checked("b", errors.New("y"))
		for range 3 {
			if got := first(&p, "", ""); got != "c" {
				t.Errorf("first is %s", got)
			}
		}
		p.Took("a")
		p.Checked("b", nil)
		for _, h := range p.Health(choices) {
			if h.State == Down || h.Error != "" {
				t.Errorf("after a success: %+v", h)
			}
		}
	})
	t.Run("a check counts more than a flow", func(t *testing.T) {
		var p Pool
		p.Checked("a", errors.New("unhealthy"))
		p.Took("a")
		if h := p.Health(choices)[0]; h.State != Down || h.Error != "unhealthy" {
			t.Errorf("got %+v", h)
		}
	})
	t.Run("many flows that fail at once are one failure", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var p Pool
			for range 200 {
				p.Failed("a", errors.New("refused"))
			}
			<-time.After(coolDownMin)
			if order := p.Order(Source, choices, "x"); !slices.Equal(order, (&Pool{}).Order(Source, choices, "x")) {
				t.Errorf("after %v the order is %v", coolDownMin, order)
			}
			p.Failed("a", errors.New("refused")) // the next doubles the rest
			<-time.After(coolDownMin)
			if order := p.Order(Source, choices, "x"); order[2] != "a" {
				t.Errorf("after another failure and %v the order is %v", coolDownMin, order)
			}
		})
	})
	t.Run("nothing to choose", func(t *testing.T) {
		var p Pool
		if got := p.Order("", nil, ""); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestTurnsOfADeadChoiceAreSharedByTheOthers(t *testing.T) {
	for name, found := range map[string]func(p *Pool){
		"by a check": func(p *Pool) { p.Checked("c", errors.New("refused")) },
		"by a flow":  func(p *Pool) { p.Failed("c", errors.New("refused")) },
	} {
		t.Run(name, func(t *testing.T) {
			var p Pool
			found(&p)
			counts := map[string]int{}
			for range 6 {
				counts[p.Order(RoundRobin, []string{"a", "b", "c"}, "")[0]]++
			}
			if counts["a"] != 3 || counts["b"] != 3 {
				t.Errorf("six flows were shared as %v, want 3 and 3", counts)
			}
		})
	}
}

func TestChoiceThatNobodyTriedIsNeitherUpNorDown(t *testing.T) {
	var p Pool
	state := func() State { return p.Health([]string{"a"})[0].State }
	if got := state(); got != Untried {
		t.Errorf("at first it is %s", got)
	}
	p.Checked("a", nil)
	if got := state(); got != Up {
		t.Errorf("after a check it is %s", got)
	}
	p.Unchecked()
	if got := state(); got != Untried {
		t.Errorf("without checks it is %s", got)
	}
	p.Failed("a", errors.New("refused"))
	if got := state(); got != Down {
		t.Errorf("after a failure it is %s", got)
	}
	p.Took("a")()
	if got := state(); got != Up {
		t.Errorf("after a flow it is %s", got)
	}
}
