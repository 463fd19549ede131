//go:build unix

package confine

import "golang.org/x/sys/unix"

const (
	// statusFailed is the status of a launcher that failed. Its last line of output says why.
	statusFailed = 125

	// niceness gives the app a tenth of the weight of the agent.
	niceness = 10

	// maxDescriptors is how many descriptors the program may have.
	maxDescriptors = 1024
)

// setLimit sets both limits, or leaves one that is lower already.
func setLimit(which int, value int64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(which, &now); err != nil {
		return err
	}
	most := min(limit(value), now.Max)
	return unix.Setrlimit(which, &unix.Rlimit{Cur: most, Max: most})
}

func startable() error { return nil }
