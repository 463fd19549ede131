package process

import (
	"os"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Program says what to start.
type Program struct {
	Path    string     // absolute; see Account.Find
	Args    []string   // with the program's name, first
	Env     []string   // "NAME=value", all of it
	Dir     string     // where it starts; the root directory if the account may not enter it
	Account *Account   // who it runs as
	TTY     *Size      // a terminal of this size; nil is three pipes
	Files   []*os.File // inherited as descriptors 3, 4, ...; closed by Begin; not on Windows
}

func (p *Program) closeFiles() {
	for _, f := range p.Files {
		f.Close()
	}
}

// notStarted returns the reason, for the caller, why a program was not started.
func notStarted(p Program, err error) *answer.Error {
	return answer.Errorf(CodeOf(err), "cannot start %v as %v: %v", apps.Bytes(p.Path), apps.Bytes(p.Account.Name), Cause(err))
}

// CodeOf returns the code for an error of the operating system about a program.
func CodeOf(err error) answer.Code {
	switch {
	case os.IsNotExist(err):
		return answer.NotFound
	case os.IsPermission(err):
		return answer.Denied
	}
	return answer.Internal
}
