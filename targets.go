package main

// Where the links of a document lead: to the pages of other documents, to files beside them, or to the web.

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// fileTypes maps the suffixes of the files that are served beside documents, in lower case, to their media types.
var fileTypes = map[string]string{
	".png":  "image/png",
	".jpg":  "image/jpeg",
	".jpeg": "image/jpeg",
	".gif":  "image/gif",
	".svg":  "image/svg+xml",
	".webp": "image/webp",
	".avif": "image/avif",
	".pdf":  "application/pdf",
}

// fileType returns the media type of a file beside documents, or "" if it is not served.
func fileType(name string) string { return fileTypes[strings.ToLower(path.Ext(name))] }

// linkSchemes are those of the addresses that may be links. Others may run code, or start programs.
var linkSchemes = []string{"http", "https", "mailto", "tel", "ftp"}

// addressScheme is the scheme of an absolute address.
var addressScheme = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*):`)

// pageTargets resolves the links of one document.
type pageTargets struct {
	id     string // of the document
	prefix string // of the folder of DOCS_DIR that has it: an address that begins with a slash is below it
	root   string // relative address of the server's root, such as "../../"
	noFile bool   // there is no folder of DOCS_DIR, so there are no files beside documents
}

// link returns the address to which a link with that target leads, or "" if it leads nowhere.
func (t pageTargets) link(target string) string {
	target = withoutControls(target)
	if strings.HasPrefix(target, "#") {
		return target
	}
	if isWebAddress(target) {
		return webAddress(target)
	}
	if scheme := addressScheme.FindStringSubmatch(target); scheme != nil {
		if slices.Contains(linkSchemes, strings.ToLower(scheme[1])) {
			return target
		}
		return ""
	}

	name, fragment := t.resolve(target)
	page := withoutHTML(name)
	switch suffix := strings.ToLower(path.Ext(name)); {
	case name == "":
		return ""
	case fileType(name) != "" && t.noFile:
		return ""
	case fileType(name) != "":
		return t.root + "files/" + escapePath(name)
	case page != name:
		name = page
	case isDocumentName(name):
	case !plainSuffix.MatchString(suffix), isVersion(suffix), strings.HasSuffix(target, "/"):
		// A page or folder without a suffix.
	default:
		return "" // a file that is not served
	}
	return readAddress(t.root, name) + fragment
}

// readAddress returns the address of the page of a document or folder. root is the relative address of the server's root.
func readAddress(root, name string) string { return root + "read/" + escapePath(name) }

// isVersion reports whether a suffix is the end of a name such as release-1.2.
func isVersion(suffix string) bool { return strings.Trim(suffix, ".0123456789x") == "" }

// image returns the address of a picture to show, or "" if it is not one of the files beside the documents.
func (t pageTargets) image(target string) string {
	target = withoutControls(target)
	if t.noFile || isAbsolute(target) {
		return ""
	}
	name, _ := t.resolve(target)
	if !strings.HasPrefix(fileType(name), "image/") {
		return ""
	}
	return t.root + "files/" + escapePath(name)
}

// resolve returns the path of a relative target below the root of the documents, and its fragment with "#".
func (t pageTargets) resolve(target string) (name, fragment string) {
	name, fragment = splitTarget(target)
	if name == "" {
		return "", ""
	}
	base := path.Dir(t.id)
	if strings.HasPrefix(name, "/") {
		base = t.prefix
	}
	name = strings.TrimPrefix(path.Clean("/"+base+"/"+name), "/")
	return name, fragment
}

// splitTarget returns the path of a relative target, decoded, and its fragment with "#".
func splitTarget(target string) (name, fragment string) {
	name = target
	if at := strings.IndexByte(target, '#'); at >= 0 {
		name = target[:at]
		fragment = target[at:]
	}
	name, _, _ = strings.Cut(name, "?")
	return decoded(name), fragment
}

// decoded returns a part of an address without its percent-encoding, or as it is if that is wrong.
func decoded(part string) string {
	if plain, err := url.PathUnescape(part); err == nil {
		return plain
	}
	return part
}

// withoutHTML returns a path without the suffix of HTML, which sites give the pages of documents.
func withoutHTML(name string) string {
	suffix := path.Ext(name)
	switch strings.ToLower(suffix) {
	case ".html", ".htm":
		return strings.TrimSuffix(name, suffix)
	}
	return name
}

// isAbsolute reports whether an address has a scheme or a host.
func isAbsolute(address string) bool {
	return isWebAddress(address) || addressScheme.MatchString(address)
}

// isWebAddress reports whether an address leads to another host.
func isWebAddress(address string) bool {
	lower := strings.ToLower(firstBytes(address, len("https://")))
	return strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://") || strings.HasPrefix(address, "//")
}

// webAddress returns an address of another host, or "" if the host is not valid.
func webAddress(address string) string {
	_, rest, _ := strings.Cut(address, "//")
	end := strings.IndexAny(rest, "/?#\\")
	if end < 0 {
		end = len(rest)
	}
	u, err := url.Parse("http://" + rest[:end])
	if err != nil || u.Host == "" {
		return ""
	}
	return address
}

// withoutControls removes what browsers ignore in an address: control characters, and spaces around it.
func withoutControls(address string) string {
	isControl := func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}
	return strings.TrimSpace(strings.Map(isControl, address))
}

// escapePath escapes the segments of a path for an address.
func escapePath(name string) string {
	segments := strings.Split(name, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return strings.Join(segments, "/")
}
