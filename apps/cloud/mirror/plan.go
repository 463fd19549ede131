package mirror

import (
	"fmt"
	"slices"
	"strings"

	"ztm/apps/rooted"
)

// Content names what is in a file: its hash. "" is no file.
type Content string

// Order says how the published version stands to the one that was here when both were last the same.
// Version vectors decide it, and no clock.
type Order int

// The orders.
const (
	Same    Order = iota // it is that version
	Newer                // it was made by somebody who knew that version
	Older                // it comes from somebody who has not heard of that version
	Apart                // both were made without knowledge of each other
	Unknown              // nothing was ever here
)

// File is what is known of one path of a mirror.
type File struct {
	Path string

	Here   Content // what is in the directory now
	Last   Content // what was there when it was last in step: fetched, or published; "" for never, or deleted then
	Shared Content // what is published; "" for deleted, or never
	Known  bool    // something was published under the path, deleted or not
	Order  Order   // of the published version to that of Last

	Touched bool       // it looks otherwise than when it was last in step, and may have the same content
	Mode    ModeChange // of its mode

	Ignored bool   // a pattern leaves it out
	Why     string // it cannot be represented, read or published: nothing is done, for this reason
}

// ModeChange is what became of the mode of a file since it was last in step. That it can be executed is
// all that counts of a mode.
type ModeChange int

// The changes.
const (
	SameMode  ModeChange = iota
	KnownMode            // it has the mode that is published, and had another one
	NewMode              // it has another one than what is published
)

// edited reports whether somebody changed the file here since it was last in step.
func (f File) edited() bool { return f.Here != f.Last }

// Mode is in which directions a mirror works. A selective one fetches new versions of what is here,
// and nothing that is not.
type Mode struct{ Up, Down, Selective bool }

// Step is what is done about one path.
type Step int

// The steps. Whatever replaces or removes a file that is not the user's own doing at this device
// keeps it: in the trash, or beside the new one under a name that says so.
const (
	Nothing  Step = iota
	Adopt         // both are the same already: note it
	Publish       // what is here is the next version
	Withdraw      // it was deleted here: publish that
	Fetch         // take the published version; what is here was published before it and goes to the trash
	Aside         // what is here was made apart from the published version: it gets a name of its own, then Fetch
	Discard       // it was deleted elsewhere: what is here goes to the trash
	Revive        // it was edited here and deleted elsewhere: publish it again, and keep what was deleted in the trash
	Report        // a person has to decide: the reason says why
)

var stepNames = []string{"nothing", "adopt", "publish", "withdraw", "fetch", "aside", "discard", "revive", "report"}

func (s Step) String() string { return stepNames[s] }

// Action is a step for a path.
type Action struct {
	Path   string
	Step   Step
	Reason string // of a Report

	dir bool // it was a directory when it was last in step
}

// Plan is what is to be done, sorted by path. Deletions that are Held are not among the actions: a
// person is asked first.
type Plan struct {
	Actions []Action
	Held    []Action
}

// Limits of deletions that nobody is asked about.
const (
	fewFiles    = 10   // so many may always go
	manyDeletes = 1000 // more than these are always asked about, and so is more than half of all
)

// Make decides what is done about each file of a mirror. It is a function of its arguments alone, and
// this is its specification:
//
//	here        published                up and down   up alone     down alone
//	= last      the same version         nothing       nothing      nothing
//	= last      newer                    fetch         nothing      fetch
//	= last      newer, deleted           discard       nothing      discard
//	= last      apart, other content     aside         report       aside
//	edited      the same or older        publish       publish      nothing
//	edited      newer or apart           aside         report       aside
//	edited      newer or apart, deleted  revive        revive       nothing
//	deleted     the same or older        withdraw      withdraw     fetch
//	deleted     newer or apart           fetch         nothing      fetch
//	new         never                    publish       publish      nothing
//	any         the same content         adopt         adopt        adopt
//	touched     the same version         adopt         adopt        adopt
//	its mode    the same version         publish       publish      adopt
//
// A file that was never in step is "edited" if it is there. Nothing is done about what is ignored;
// what cannot be represented is reported. A selective mirror does nothing in place of a fetch of what
// is not here. Of names that a file system takes for one, because it
// folds case, none but the first is fetched.
//
// Deletions, of either kind, are held where they are more than a thousand, or more than half of the
// files that were in step, unless a person has confirmed them. Directories count with the files, and
// files by themselves as well: many empty directories do not make a deletion of files a small one.
func Make(m Mode, files []File, folds, confirmed bool) Plan {
	var all []Action
	taken := map[string]string{} // folded name of a file that is here -> its path
	inStep, dirs := 0, 0
	for _, f := range files {
		if f.Here != "" {
			taken[fold(f.Path)] = f.Path
		}
		switch f.Last {
		case "":
		case Directory:
			dirs++
		default:
			inStep++
		}
	}
	for _, f := range files {
		a := Action{Path: f.Path, Step: m.step(f), Reason: f.Why, dir: f.Last == Directory}
		switch {
		case f.Ignored || a.Step == Nothing && f.Why == "":
			continue
		case f.Why != "":
			a.Step = Report
		case a.Step == Report:
			a.Reason = "it was edited here, and elsewhere as well"
		case folds && a.Step == Fetch && f.Here == "":
			if other, is := taken[fold(f.Path)]; is && other != f.Path {
				a.Step, a.Reason = Report, fmt.Sprintf("its name is the same as that of %q on this file system", other)
			} else {
				taken[fold(f.Path)] = f.Path
			}
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b Action) int { return strings.Compare(a.Path, b.Path) })
	return hold(all, inStep, dirs, confirmed)
}

// hold takes deletions out of a plan if they are too many.
func hold(all []Action, files, dirs int, confirmed bool) (p Plan) {
	deletes := func(a Action) bool { return a.Step == Withdraw || a.Step == Discard }
	ofFiles, ofDirs := 0, 0
	for _, a := range all {
		switch {
		case !deletes(a):
		case a.dir:
			ofDirs++
		default:
			ofFiles++
		}
	}
	held := !confirmed && (tooMany(ofFiles, files) || tooMany(ofFiles+ofDirs, files+dirs))
	for _, a := range all {
		if held && deletes(a) {
			p.Held = append(p.Held, a)
		} else {
			p.Actions = append(p.Actions, a)
		}
	}
	return p
}

// tooMany reports whether a person is asked about n deletions of all that was in step.
func tooMany(n, of int) bool { return n > fewFiles && (n > manyDeletes || 2*n > of) }

// step decides about one file, by the table of [Make].
func (m Mode) step(f File) Step {
	switch {
	case !f.Known:
		return m.unknown(f)
	case f.Here == f.Shared:
		return m.adopt(f)
	case f.Here == "":
		return m.deleted(f)
	case f.edited():
		return m.edited(f)
	}
	return m.untouched(f)
}

func (m Mode) unknown(f File) Step {
	if f.Here != "" && m.Up {
		return Publish
	}
	return Nothing
}

// adopt is for a file that is what is published.
func (m Mode) adopt(f File) Step {
	switch {
	case f.Order != Same || f.Last != f.Here:
		return Adopt
	case f.Mode == NewMode && m.Up:
		return Publish
	case f.Touched && f.Here != "":
		return Adopt
	}
	return Nothing
}

// deleted is for a file that is published and not here.
func (m Mode) deleted(f File) Step {
	behind := f.Last != "" && (f.Order == Same || f.Order == Older)
	switch {
	case behind && m.Up:
		return Withdraw
	case m.Down && !m.Selective:
		return Fetch
	}
	return Nothing
}

func (m Mode) edited(f File) Step {
	ahead := f.Order == Newer || f.Order == Apart || f.Order == Unknown
	switch {
	case !ahead && m.Up, ahead && f.Shared == "" && f.Last == "" && m.Up:
		return Publish
	case !ahead:
		return Nothing
	case f.Shared == "" && m.Up:
		return Revive
	case f.Shared == "":
		return Nothing
	case m.Down:
		return Aside
	}
	return Report
}

// untouched is for a file that is as it was when it was last in step, and published otherwise.
func (m Mode) untouched(f File) Step {
	switch {
	case f.Order == Apart && f.Shared != "" && m.Down:
		return Aside
	case f.Order == Apart && f.Shared != "" && m.Up:
		return Report
	case f.Order == Apart && m.Up: // deleted elsewhere by somebody who did not know this version
		return Publish
	case f.Order == Older || !m.Down:
		return Nothing
	case f.Shared == "":
		return Discard
	}
	return Fetch
}

// fold returns what names have in common that a file system may take for one.
func fold(path string) string { return strings.ToLower(strings.ToUpper(rooted.Form(path))) }
