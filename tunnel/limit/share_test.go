package limit

import (
	"fmt"
	"strings"
	"testing"
)

func TestAShareGoesToWhoHasLess(t *testing.T) {
	for _, tt := range []struct {
		name  string
		keys  string // who asks, one after the other, for three places
		taken string // who was refused, in brackets, and whose oldest place was taken over, after a slash
	}{
		{"free places are for anybody", "aaa", "a a a"},
		{"one that has all gets no more", "aaaa", "a a a (a)"},
		{"another takes over", "aaab", "a a a b/a0"},
		{"until neither would have more", "aaabb", "a a a b/a0 (b)"},
		{"a third as well", "aabc", "a a b c/a0"},
		{"and none when all have one", "abcd", "a b c (d)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewShare[rune](3)
			var steps []string
			for i, key := range tt.keys {
				step := string(key)
				yield := func() { steps[len(steps)-1] += fmt.Sprintf("/%c%d", key, i) }
				steps = append(steps, step)
				if _, ok := s.Acquire(key, yield); !ok {
					steps[len(steps)-1] = "(" + step + ")"
				}
			}
			if got := strings.Join(steps, " "); got != tt.taken {
				t.Errorf("got %s, want %s", got, tt.taken)
			}
		})
	}
}

func TestAPlaceThatWasLostIsReleasedWithoutHarm(t *testing.T) {
	s := NewShare[string](2)
	none := func() {}
	first, _ := s.Acquire("a", none)
	second, _ := s.Acquire("a", none)
	third, ok := s.Acquire("b", none)
	if !ok {
		t.Fatal("there is no place for another")
	}
	first() // which b has by now
	if _, ok := s.Acquire("a", none); ok {
		t.Error("a place that was lost was given back")
	}
	second()
	third()
	if s.Count("a") != 0 || s.Count("b") != 0 || s.total != 0 || len(s.held) != 0 {
		t.Errorf("%d places are held by %v", s.total, s.held)
	}
}
