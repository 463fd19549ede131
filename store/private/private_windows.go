package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// checkOwner finds no fault: restrict sets who may do what, and fails where this process may not.
func checkOwner(fs.FileInfo) error { return nil }

func keepsOwners(string) bool { return true }

// restrict sets the access list to the user of this process, the system and the administrators, for
// all below as well. A file system without access lists (FAT) stays as it is.
func restrict(path string, _ fs.FileInfo) error {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("who runs this: %w", err)
	}
	const everything = "(A;OICI;FA;;;%s)" // allow, inherited by files and directories below, all rights
	text := "D:P" + fmt.Sprintf(everything+everything+everything, "SY", "BA", user.User.Sid)
	descriptor, err := windows.SecurityDescriptorFromString(text)
	if err != nil {
		return fmt.Errorf("access list: %w", err)
	}
	list, _, err := descriptor.DACL()
	if err != nil {
		return fmt.Errorf("access list: %w", err)
	}
	err = windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
	if errors.Is(err, windows.ERROR_NOT_SUPPORTED) || errors.Is(err, windows.ERROR_INVALID_FUNCTION) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make %s private: %w", path, err)
	}
	return nil
}

// File makes a file that is there private.
func File(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return restrict(path, info)
}
