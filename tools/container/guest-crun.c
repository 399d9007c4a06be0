/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program's needs are told by its own loader ("ld.so --list"), as ldd does
 * it. In the guest it lies in /bin, libraries lie in /lib whatever their
 * directory was, and the loader where the program says.
 */
#include "tools/container/guest-crun.h"

#include "firmware/agent/agent.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define INTERPRETER_MAX 256
#define SEGMENTS_MAX    64
#define FILES_MAX       64 /* of the initial RAM disk */

/* Takes FD. */
static int add_file(struct initrd_files *files, const char *name, int fd)
{
	int r = files->count < FILES_MAX ? initrd_add(files, name, fd)
					 : -EMFILE;

	if (r == -EMFILE)
		close(fd);
	return r < 0 ? log_ret(r, "crun and its libraries: %s", strerror(-r))
		     : 0;
}

static int add_path(struct initrd_files *files, const char *name,
		    const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? log_ret(-errno, "'%s', which crun needs: %s", path,
				strerror(errno))
		      : add_file(files, name, fd);
}

/* An executable file along PATH: its descriptor, and where it was. */
static int find_program(char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");

	while (dirs && *dirs) {
		const size_t n = strcspn(dirs, ":");
		const int length =
			snprintf(path, PATH_MAX, "%.*s/crun", (int)n, dirs);
		struct stat st;

		dirs += n + (dirs[n] == ':');
		if (n > 0 && length < PATH_MAX && access(path, X_OK) == 0 &&
		    stat(path, &st) == 0 && S_ISREG(st.st_mode))
			return open(path, O_RDONLY | O_CLOEXEC);
	}
	return log_ret(-ENOENT,
		       "--guest-runtime crun: there is no crun on this host: "
		       "apt-get install crun");
}

/*
 * The loader's path, of which "" is none: the program is static. 0 or -EINVAL,
 * logged.
 */
static int read_interpreter(int fd, const char *path, char ret[INTERPRETER_MAX])
{
	Elf64_Ehdr elf;
	Elf64_Phdr segment;

	ret[0] = '\0';
	if (util_read_at(fd, &elf, sizeof(elf), 0) < 0 ||
	    memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
	    elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != EM_X86_64 ||
	    elf.e_phnum > SEGMENTS_MAX)
		return log_ret(-EINVAL, "'%s' is no program of this machine's",
			       path);
	for (unsigned i = 0; i < elf.e_phnum; i++) {
		if (util_read_at(fd, &segment, sizeof(segment),
				 elf.e_phoff + i * sizeof(segment)) < 0)
			break;
		if (segment.p_type != PT_INTERP)
			continue;
		if (segment.p_filesz >= INTERPRETER_MAX ||
		    util_read_at(fd, ret, segment.p_filesz, segment.p_offset) <
			    0 ||
		    ret[0] != '/')
			return log_ret(-EINVAL, "'%s': its loader has no name",
				       path);
		ret[segment.p_filesz] = '\0';
		return 0;
	}
	return 0;
}

/* "libc.so.6 => /lib/libc.so.6 (0x7f...)"; others are of no interest. */
static int take_line(struct initrd_files *files, char *line)
{
	char *path = strstr(line, "=> ");
	char *end, *base;
	char name[NAME_MAX + 8];

	if (strstr(line, "not found"))
		return log_ret(-ENOENT, "crun lacks a library: %s", line);
	if (!path || path[3] != '/')
		return 0;
	path += 3;
	end = strstr(path, " (");
	if (end)
		*end = '\0';
	/* The name it is looked for by is in front. */
	line += strspn(line, " \t");
	line[strcspn(line, " ")] = '\0';
	base = strrchr(line, '/');
	snprintf(name, sizeof(name), "lib/%s", base ? base + 1 : line);
	return add_path(files, name, path);
}

/* Standard output of the loader, read by the caller. */
static FILE *list_libraries(const char *loader, const char *path, pid_t *ret)
{
	int ends[2];
	FILE *file;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return NULL;
	*ret = fork();
	if (*ret == 0) {
		dup2(ends[1], STDOUT_FILENO);
		execl(loader, loader, "--list", path, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	file = *ret < 0 ? NULL : fdopen(ends[0], "r");
	if (!file)
		close(ends[0]);
	return file;
}

static int add_libraries(struct initrd_files *files, const char *loader,
			 const char *path)
{
	char line[2 * PATH_MAX];
	int status = -1;
	int r = 0;
	pid_t pid;
	FILE *file = list_libraries(loader, path, &pid);

	if (!file)
		return log_ret(-errno, "'%s': %s", loader, strerror(errno));
	while (r == 0 && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		r = take_line(files, line);
	}
	fclose(file);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == 0 && status != 0)
		r = log_ret(-EINVAL, "'%s --list %s' failed", loader, path);
	return r < 0 ? r : add_path(files, loader + 1, loader);
}

int guest_crun_find(struct initrd_files *files)
{
	char path[PATH_MAX], loader[INTERPRETER_MAX];
	int fd = find_program(path);
	int r = fd < 0 ? fd : read_interpreter(fd, path, loader);

	if (r < 0) {
		util_close(&fd);
		return r;
	}
	r = add_file(files, &AGENT_OCI_CRUN[1], fd);
	return r < 0 || !loader[0] ? r : add_libraries(files, loader, path);
}
