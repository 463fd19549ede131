package beside

import (
	"log/slog"

	"github.com/urfave/cli/v2"
)

// Companion is work beside the agent as the command line knows it.
type Companion struct {
	Flags []cli.Flag
	// Start returns the work that the command line asks for, nil if it asks for none. mesh is that
	// of --join, or "".
	Start func(x *cli.Context, mesh string, log *slog.Logger, a Agent) (Work, error)
}

// Flags are the options of all companions.
func Flags(companions []Companion) (flags []cli.Flag) {
	for _, c := range companions {
		flags = append(flags, c.Flags...)
	}
	return flags
}

// Start returns the work that the command line asks for of all companions.
func Start(companions []Companion, x *cli.Context, mesh string, log *slog.Logger, a Agent) (works []Work, err error) {
	for _, c := range companions {
		work, err := c.Start(x, mesh, log, a)
		if err != nil {
			return nil, err
		}
		if work != nil {
			works = append(works, work)
		}
	}
	return works, nil
}
