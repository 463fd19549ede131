package confine

import "testing"

// Root reaches the socket of a container engine, and by that everything, unless it has a file system
// without one, or a Landlock that knows of sockets.
func TestWhoStaysRootIsHeldOnlyWhereSocketsAre(t *testing.T) {
	for _, tt := range []struct {
		means Means
		want  bool
	}{
		{Means{Landlock: socketsHeld - 1, Filter: true, Unbounded: true}, false},
		{Means{Landlock: socketsHeld, Filter: true, Unbounded: true}, true},
		{Means{Landlock: 1, Filter: true}, true},
		{Means{Root: "root", Filter: true}, true},
		{Means{Root: "user", Landlock: 1, Filter: true}, true},
		{Means{Landlock: socketsHeld}, false},
		{Means{Filter: true}, false},
		{Means{}, false},
	} {
		if got := tt.means.Holds(); got != tt.want {
			t.Errorf("%+v holds: %v, want %v", tt.means, got, tt.want)
		}
	}
}
