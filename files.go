package main

// GET /files/{path}: pictures and PDFs beside the documents, below DOCS_DIR. Anybody who writes documents can add
// files, so a browser must not run anything in them: they are sandboxed, and browsers may not guess their type.

import (
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maxFileBytes is the size of the largest file that is served.
const maxFileBytes = 32 << 20

// filePolicy is the Content-Security-Policy of files. An SVG may style itself, and nothing else.
const filePolicy = "sandbox; " +
	"default-src 'none'; " +
	"style-src 'unsafe-inline'; " +
	"img-src data:; " +
	"frame-ancestors 'none'"

var (
	errNoFile = userError{
		http.StatusNotFound,
		"no such file: png, jpg, jpeg, gif, svg, webp, avif " +
			"and pdf below DOCS_DIR are served",
	}
	errFileTooLarge = userError{
		http.StatusRequestEntityTooLarge,
		"the file is larger than 32 MiB",
	}
)

// handleFile answers GET /files/{path}.
func (s *server) handleFile(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("path")
	contentType := fileType(name)
	isServed := contentType != "" && isFilePath(name)
	if !isServed || isExcluded(name, s.cfg.docsExclude) {
		return errNoFile
	}

	file, info, err := s.openFile(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if info.Size() > maxFileBytes {
		return errFileTooLarge
	}

	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", filePolicy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Caches may store the file, but must revalidate it.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", fileTag(info))
	if contentType == "application/pdf" {
		// Browsers show no PDF in a sandbox.
		h.Set("Content-Disposition", "attachment")
	}
	content := newContentWriter(w, r)
	http.ServeContent(content, r, "", info.ModTime(), file)
	return content.err
}

// isFilePath reports whether a path is safe: relative, without dot files and generated folders.
func isFilePath(name string) bool {
	rooted := "/" + name
	isClean := path.Clean(rooted) == rooted
	if len(name) > maxIDBytes || strings.ContainsAny(name, "\\\x00") || !isClean {
		return false
	}

	for segment := range strings.SplitSeq(path.Dir(rooted), "/") {
		if slices.Contains(generatedFolders, segment) {
			return false
		}
	}
	return !strings.Contains(rooted, "/.")
}

// openFile opens a file below one of the folders of DOCS_DIR. The caller closes it.
func (s *server) openFile(name string) (*os.File, os.FileInfo, error) {
	for _, folder := range s.cfg.docsDirs {
		inside, isInside := strings.CutPrefix(name, folder.prefix)
		if !isInside {
			continue
		}

		root, err := os.OpenRoot(folder.dir)
		if err != nil {
			return nil, nil, errNoFile
		}
		defer root.Close()
		file, info, err := openRegular(root, inside)
		if err != nil {
			return nil, nil, errNoFile
		}
		return file, info, nil
	}
	return nil, nil, errNoFile
}

// fileTag returns an entity tag that changes with the file. It is not a hash, because hashing a file costs more than
// the tag saves.
func fileTag(info os.FileInfo) string {
	changed := info.ModTime().UnixNano()
	size := info.Size()
	return `"` + strconv.FormatInt(changed, 36) +
		"-" + strconv.FormatInt(size, 36) + `"`
}
