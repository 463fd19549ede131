package private

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// access is the access list of a file or directory, in the form of SDDL.
func access(t *testing.T, path string) string {
	t.Helper()
	d, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestADirectoryIsForTheUserTheSystemAndAdministratorsAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := Dir(dir); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if list := access(t, dir); !strings.HasPrefix(list, "D:P") || strings.Count(list, "(") != 3 {
		t.Errorf("the list of the directory: %s", list)
	}
	for _, path := range []string{dir, file} {
		list := access(t, path)
		for _, everybody := range []string{";;;WD)", ";;;BU)", ";;;AU)"} {
			if strings.Contains(list, everybody) {
				t.Errorf("others may use %s: %s", path, list)
			}
		}
	}
}
