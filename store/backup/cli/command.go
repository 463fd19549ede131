// Package cli is the commands `ztm backup` and `ztm restore`.
package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/store/backup"
	"ztm/tunnel/unixtime"
)

// Commands are `ztm backup` and `ztm restore`, for these kinds. note tells a person something.
func Commands(kinds []backup.Kind, dataDir func(*cli.Context) (string, error), note func(format string, args ...any)) []*cli.Command {
	c := commands{kinds, dataDir, note}
	passphrase := &cli.StringFlag{Name: "passphrase-file", Usage: "read the passphrase from the first line of `FILE`; - for standard input"}
	data := &cli.StringFlag{Name: "data", Aliases: []string{"d"}, Usage: "data directory `DIR` (default: ~/.ztm)"}
	return []*cli.Command{
		{
			Name: "backup", Category: apps.Device, ArgsUsage: "FILE", Usage: "write the state of this device's agent, or hub, to a file",
			Description: "The agent or hub may run meanwhile: the file is of one moment. It holds private keys. Keep it like the device,\n" +
				"or seal it with --passphrase-file.\n\n" +
				"Example:\n  ztm backup agent.backup\n  ztm backup --hub --data /var/lib/ztm hub.backup --passphrase-file secret.txt",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "hub", Usage: "back up the hub, not the agent"}, data, passphrase},
			Action: c.backup,
		},
		{
			Name: "restore", Category: apps.Device, ArgsUsage: "FILE", Usage: "put back the state that `ztm backup` has written",
			Description: "Stop the agent or hub first. Join tokens that were made before are void afterwards, as they may have been used since\n" +
				"the backup. Evictions that are newer than the backup stay in force: from the database that is replaced with --force,\n" +
				"and from the mesh.\n\n" +
				"Example:\n  ztm restore agent.backup\n  ztm restore hub.backup --data /var/lib/ztm --force",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "replace the database that is there"}, data, passphrase},
			Action: c.restore,
		},
	}
}

type commands struct {
	kinds   []backup.Kind
	dataDir func(*cli.Context) (string, error)
	note    func(format string, args ...any)
}

func (c commands) backup(x *cli.Context) error {
	name := "agent"
	if x.Bool("hub") {
		name = "hub"
	}
	k, err := c.kind(name)
	if err != nil {
		return err
	}
	data, passphrase, err := c.options(x)
	if err != nil {
		return err
	}
	file := x.Args().First()
	err = k.Write(data, file, passphrase, time.Now())
	if errors.Is(err, os.ErrExist) {
		return &apps.HintError{Err: fmt.Errorf("%s is there already", file), Hint: "choose another file: a backup overwrites nothing"}
	}
	if err != nil {
		return err
	}
	if passphrase == "" {
		c.note("the %s in %s is backed up to %s, which holds its private keys: keep it safe", name, data, file)
	} else {
		c.note("the %s in %s is backed up to %s, under the passphrase", name, data, file)
	}
	return nil
}

func (c commands) restore(x *cli.Context) error {
	data, passphrase, err := c.options(x)
	if err != nil {
		return err
	}
	file := x.Args().First()
	h, database, err := backup.Read(file, passphrase)
	if errors.Is(err, backup.ErrSealed) {
		return &apps.HintError{Err: fmt.Errorf("%s: %w", file, err), Hint: "give it with --passphrase-file FILE"}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	k, err := c.kind(h.Kind)
	if err != nil {
		return err
	}
	err = k.Restore(data, database, x.Bool("force"), slog.New(slog.NewTextHandler(x.App.ErrWriter, nil)), time.Now())
	if errors.Is(err, backup.ErrExists) {
		return &apps.HintError{Err: err, Hint: "--force replaces it; its evictions and used tokens are kept"}
	}
	if err != nil {
		return err
	}
	c.note("the %s of %s is restored to %s; join tokens that were made before are void", k.Name, unixtime.Text(h.Made.Time()), data)
	return nil
}

func (c commands) kind(name string) (backup.Kind, error) {
	for _, k := range c.kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return backup.Kind{}, fmt.Errorf("this binary has no %.20q to back up or restore", name)
}

// options are the data directory and the passphrase; none is "".
func (c commands) options(x *cli.Context) (data, passphrase string, err error) {
	if data, err = c.dataDir(x); err != nil || x.String("passphrase-file") == "" {
		return data, "", err
	}
	in, err := apps.Input(x.App.Reader, x.String("passphrase-file"))
	if err != nil {
		return "", "", fmt.Errorf("passphrase: %w", err)
	}
	defer in.Close()
	const longest = 1024
	b, err := io.ReadAll(io.LimitReader(in, longest+1))
	if err != nil {
		return "", "", fmt.Errorf("passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > longest {
		return "", "", fmt.Errorf("passphrase: want 1 to %d bytes in one line", longest)
	}
	return data, string(line), nil
}
