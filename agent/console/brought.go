package console

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ztm/agent/console/grammar"
	"ztm/apps"
)

// Programs that are installed at an endpoint may bring commands. The agent alone knows them, so it
// is asked where no command of this binary is meant:
//
//	words -> grammar.Parse: no such command -> grammar.Foreign -> the chosen agent and endpoint -> apps.Brought
//
// A word of this binary always wins, and a line without such a word asks nobody.

// foreign runs a line whose command is none of this binary, or returns why it is no command at all.
func (c *Console) foreign(ctx context.Context, root *grammar.Command, args []string, wrong error) error {
	line, name, rest, ok := grammar.Foreign(root, args)
	if !ok || c.known.Brought == nil || c.heed(line) != nil {
		return wrong
	}
	known, err := c.known.Brought.Run(ctx, name, rest)
	if !known {
		return wrong
	}
	return err
}

// bring adds the commands of installed programs to those of root, which help is to show.
func (c *Console) bring(ctx context.Context, root *grammar.Command, line *grammar.Line) {
	for _, b := range c.brought(ctx, root, line) {
		root.Commands = append(root.Commands, &grammar.Command{Name: b.Name, Usage: apps.Printable(b.Usage)})
	}
}

// completeBrought prints the commands of installed programs that a word could become.
func (c *Console) completeBrought(ctx context.Context, root *grammar.Command, next grammar.Next) {
	for _, b := range c.brought(ctx, root, next.Line) {
		if strings.HasPrefix(b.Name, next.Typed) && harmless(b.Name) {
			fmt.Fprintf(c.cfg.Stdout, "%s\t%s\n", b.Name, apps.Printable(b.Usage))
		}
	}
}

// brought lists the commands of installed programs that no command of root hides. A person waits.
func (c *Console) brought(ctx context.Context, root *grammar.Command, line *grammar.Line) []apps.BroughtCommand {
	if c.known.Brought == nil || c.heed(line) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	return slices.DeleteFunc(c.known.Brought.List(ctx), func(b apps.BroughtCommand) bool { return grammar.Has(root, b.Name) })
}

// heed takes over what the options and prefixes of a line choose.
func (c *Console) heed(line *grammar.Line) error {
	if format, given := line.Option("output"); given {
		c.format = format
	}
	data, _ := line.Option("data")
	if err := c.choose(data); err != nil {
		return err
	}
	c.prefixes(line.Prefixes)
	return nil
}
