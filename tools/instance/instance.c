/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories of instances, and who holds them. instance-state.c knows what
 * is in state.json.
 */
#include "tools/instance/instance.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define WAIT_STEP_MS 10
/* For another command that pauses or saves an instance, and its disk. */
#define LOCK_NS 60000000000ULL

/* Allocated, or NULL. The user's own, and only the user's: see open_base(). */
static char *base_path(void)
{
	const char *named = getenv("BULKHEAD_RUNTIME_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	char *path;
	int n;

	if (named && named[0])
		n = asprintf(&path, "%s", named);
	else if (geteuid() == 0)
		n = asprintf(&path, "/run/bulkhead");
	else if (xdg && xdg[0])
		n = asprintf(&path, "%s/bulkhead", xdg);
	else
		n = asprintf(&path, "/tmp/bulkhead-%u", (unsigned)geteuid());
	if (n < 0)
		return NULL;
	/* It is used from other directories than this one, too. */
	if (path[0] != '/') {
		log_error("'%s': the directory of instances must begin with "
			  "'/': set BULKHEAD_RUNTIME_DIR",
			  path);
		free(path);
		return NULL;
	}
	return path;
}

static int check_base(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return log_ret(-EPERM,
			       "'%s' must belong to this user, and nobody else "
			       "may write there; BULKHEAD_RUNTIME_DIR names "
			       "another place",
			       path);
	return 0;
}

static const char *full_advice(int error)
{
	return error == ENOSPC || error == EDQUOT
		       ? "; BULKHEAD_RUNTIME_DIR names another place for "
			 "instances"
		       : "";
}

/*
 * The directory of all instances, locked. CREATE: makes it where it is missing;
 * -ENOENT otherwise (not logged). The last user removes it, so it may be gone
 * by the time the lock is ours.
 */
static int open_base(const char *path, bool create)
{
	for (;;) {
		autofd int fd = -1;
		struct stat ours, there;
		int r;

		if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
			return log_ret(-errno, "cannot make '%s': %s%s", path,
				       strerror(errno), full_advice(errno));
		fd = open(path,
			  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT && create)
			continue;
		if (fd < 0 && errno == ENOENT)
			return -ENOENT;
		if (fd < 0)
			return log_ret(-errno, "cannot open '%s': %s", path,
				       strerror(errno));
		r = check_base(fd, path);
		if (r < 0)
			return r;
		while (flock(fd, LOCK_EX) < 0)
			if (errno != EINTR)
				return log_ret(-errno, "cannot lock '%s': %s",
					       path, strerror(errno));
		if (stat(path, &there) == 0 && fstat(fd, &ours) == 0 &&
		    there.st_ino == ours.st_ino && there.st_dev == ours.st_dev)
			return take_fd(&fd);
		if (!create)
			return -ENOENT;
	}
}

static void unlock_base(int fd)
{
	(void)flock(fd, LOCK_UN);
}

void instance_init(struct instance *instance)
{
	*instance = (struct instance){.base_fd = -1, .dir_fd = -1};
}

void instance_done(struct instance *instance)
{
	free(instance->path);
	free(instance->socket);
	free(instance->control);
	util_close(&instance->base_fd);
	util_close(&instance->dir_fd);
	instance_init(instance);
}

int instance_check_name(const char *what, const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";

	if (name[0] != '\0' && strlen(name) <= INSTANCE_NAME_MAX &&
	    !strchr("-._", name[0]) && name[strspn(name, allowed)] == '\0')
		return 0;
	return log_ret(-EINVAL,
		       "%s '%s': use up to %d letters, digits, '.', '_', "
		       "'-', and begin with a letter or digit",
		       what, name, INSTANCE_NAME_MAX);
}

static int fill_paths(struct instance *instance, const char *base,
		      const char *name)
{
	snprintf(instance->name, sizeof(instance->name), "%s", name);
	if (asprintf(&instance->path, "%s/%s", base, name) < 0) {
		instance->path = NULL;
		return -ENOMEM;
	}
	if (asprintf(&instance->socket, "%s/vsock", instance->path) < 0) {
		instance->socket = NULL;
		return -ENOMEM;
	}
	if (asprintf(&instance->control, "%s/control", instance->path) < 0) {
		instance->control = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int open_dir(int base_fd, const char *name)
{
	int fd = openat(base_fd, name,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int random_name(char ret_name[INSTANCE_NAME_MAX + 1])
{
	uint8_t bytes[6];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -errno;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		snprintf(ret_name + 2 * (size_t)i, 3, "%02x", bytes[i]);
	return 0;
}

/* The base is locked. -EEXIST, logged: what frees the name. */
static int name_taken(int base_fd, const char *name)
{
	autofd int fd = open_dir(base_fd, name);
	bool runs = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;

	return log_ret(-EEXIST,
		       runs ? "name '%s' is taken by an instance that runs: "
			      "'bulkhead stop %s' ends it"
			    : "name '%s' is taken by an instance that has "
			      "ended: 'bulkhead rm %s' forgets it",
		       name, name);
}

/* The base is locked: nobody looks at the directory before it is ours. */
static int make_dir(struct instance *instance, const char *base,
		    const char *name)
{
	int r;

	if (mkdirat(instance->base_fd, name, 0700) < 0) {
		if (errno == EEXIST)
			return name_taken(instance->base_fd, name);
		return log_ret(-errno, "cannot make '%s/%s': %s%s", base, name,
			       strerror(errno), full_advice(errno));
	}
	instance->dir_fd = open_dir(instance->base_fd, name);
	r = instance->dir_fd < 0 ? instance->dir_fd : 0;
	if (r == 0 && flock(instance->dir_fd, LOCK_EX | LOCK_NB) < 0)
		r = -errno;
	if (r == 0)
		r = fill_paths(instance, base, name);
	if (r < 0) {
		(void)unlinkat(instance->base_fd, name, AT_REMOVEDIR);
		return log_ret(r, "'%s/%s': %s", base, name, strerror(-r));
	}
	return 0;
}

/*
 * The base is locked. The first name from PREFIX-*NUMBER on that is free; with
 * PREFIX NULL, a random one.
 */
static int choose_name(int base_fd, const char *prefix, unsigned *number,
		       char ret[INSTANCE_NAME_MAX + 1])
{
	if (!prefix)
		return random_name(ret);
	for (;; ++*number) {
		const int n = snprintf(ret, INSTANCE_NAME_MAX + 1, "%s-%u",
				       prefix, *number);

		if (n > INSTANCE_NAME_MAX)
			return log_ret(-ENAMETOOLONG,
				       "name '%s-%u': longer than %d "
				       "characters: give another one",
				       prefix, *number, INSTANCE_NAME_MAX);
		if (faccessat(base_fd, ret, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT ? 0
					       : log_ret(-errno, "'%s': %s",
							 ret, strerror(errno));
	}
}

/* With NAME NULL, one is chosen. */
static int create(const char *name, const char *prefix, unsigned *number,
		  struct instance *ret)
{
	char chosen[INSTANCE_NAME_MAX + 1];
	autofree char *base = base_path();
	struct instance made;
	int r;

	instance_init(&made);
	if (!base)
		return -ENOMEM;
	r = name || prefix ? instance_check_name("name", name ? name : prefix)
			   : 0;
	if (r < 0)
		return r;
	r = open_base(base, true);
	if (r < 0)
		return r;
	made.base_fd = r;
	r = name ? 0 : choose_name(made.base_fd, prefix, number, chosen);
	if (r == 0)
		r = make_dir(&made, base, name ? name : chosen);
	unlock_base(made.base_fd);
	if (r < 0)
		instance_done(&made);
	else
		*ret = made;
	return r;
}

int instance_create(const char *name, struct instance *ret)
{
	return create(name, NULL, NULL, ret);
}

int instance_create_numbered(const char *prefix, unsigned *number,
			     struct instance *ret)
{
	return create(NULL, prefix, number, ret);
}

/* One that is there, by the already open base. Takes BASE_FD over. */
static int open_at(int base_fd, const char *base, const char *name,
		   struct instance *ret)
{
	struct instance found;
	int r;

	instance_init(&found);
	found.base_fd = base_fd;
	found.dir_fd = open_dir(base_fd, name);
	r = found.dir_fd < 0 ? found.dir_fd : fill_paths(&found, base, name);
	if (r < 0)
		instance_done(&found);
	else
		*ret = found;
	return r;
}

int instance_open(const char *name, struct instance *ret)
{
	autofree char *base = base_path();
	int r;

	if (!base)
		return -ENOMEM;
	r = instance_check_name("name", name);
	if (r < 0)
		return r;
	r = open_base(base, false);
	if (r >= 0) {
		unlock_base(r);
		r = open_at(r, base, name, ret);
	}
	if (r == -ENOENT)
		return log_ret(r,
			       "'%s': no such instance; 'bulkhead ps -a' lists "
			       "them",
			       name);
	return r < 0 ? log_ret(r, "'%s/%s': %s", base, name, strerror(-r)) : 0;
}

/*
 * The lock is asked for, and given back: only under the base's lock, so that
 * two who ask do not take each other for the owner.
 */
static bool is_held(const struct instance *instance)
{
	if (flock(instance->dir_fd, LOCK_EX | LOCK_NB) < 0)
		return true;
	(void)flock(instance->dir_fd, LOCK_UN);
	return false;
}

bool instance_is_alive(const struct instance *instance)
{
	bool alive;

	(void)flock(instance->base_fd, LOCK_EX);
	alive = is_held(instance);
	unlock_base(instance->base_fd);
	return alive;
}

int instance_wait(const struct instance *instance, int timeout_ms)
{
	const uint64_t end =
		util_now_ns() +
		(uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000;

	while (instance_is_alive(instance)) {
		if (timeout_ms >= 0 && util_now_ns() >= end)
			return -ETIME;
		poll(NULL, 0, WAIT_STEP_MS);
	}
	return 0;
}

int instance_again(const struct instance *instance)
{
	int r;

	(void)flock(instance->base_fd, LOCK_EX);
	r = flock(instance->dir_fd, LOCK_EX | LOCK_NB) < 0 ? -EBUSY : 0;
	unlock_base(instance->base_fd);
	return r;
}

void instance_forget(const struct instance *instance)
{
	static const char *const shared[] = {INSTANCE_STATUS_FILE,
					     INSTANCE_INPUT_FILE,
					     INSTANCE_KILLER_FILE,
					     INSTANCE_PAUSED_FILE,
					     "vsock",
					     "vsock_1024",
					     "control"};

	for (unsigned i = 0; i < ARRAY_LEN(shared); i++)
		(void)unlinkat(instance->dir_fd, shared[i], 0);
}

uint64_t instance_process_start(pid_t pid)
{
	char path[40], text[1024];
	const char *p;
	autofd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The name, field 2, may hold anything; the start is field 22. */
	p = strrchr(text, ')');
	for (unsigned field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		p += p != NULL;
	}
	return p ? strtoull(p, NULL, 10) : 0;
}

static void note_killer(const struct instance *instance, const char *command)
{
	autofd int fd = openat(
		instance->dir_fd, INSTANCE_KILLER_FILE,
		O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0)
		(void)util_write_all(fd, command, strlen(command));
}

void instance_read_killer(const struct instance *instance,
			  char ret[INSTANCE_KILLER_MAX + 1])
{
	autofd int fd = openat(instance->dir_fd, INSTANCE_KILLER_FILE,
			       O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, ret, INSTANCE_KILLER_MAX);

	ret[n > 0 ? n : 0] = '\0';
}

void instance_kill_monitor(const struct instance *instance,
			   const struct instance_state *state,
			   const char *command)
{
	autofd int fd = -1;

	if (state->pid <= 1 || state->pid_start == 0)
		return;
	fd = (int)syscall(SYS_pidfd_open, state->pid, 0);
	/* The descriptor is this process's, whatever its number becomes. */
	if (fd < 0 || instance_process_start(state->pid) != state->pid_start)
		return;
	note_killer(instance, command);
	(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

/* Its files, and then itself: there are no directories in it. */
static int remove_dir(const struct instance *instance)
{
	int fd = open_dir(instance->base_fd, instance->name);
	const struct dirent *entry;
	DIR *dir;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(fd, entry->d_name, 0);
	closedir(dir);
	if (unlinkat(instance->base_fd, instance->name, AT_REMOVEDIR) < 0 &&
	    errno != ENOENT)
		return log_ret(-errno, "cannot remove '%s': %s", instance->path,
			       strerror(errno));
	return 0;
}

/* The last user removes the directory. */
static void remove_base(const struct instance *instance)
{
	autofree char *base = strdup(instance->path);
	char *slash = base ? strrchr(base, '/') : NULL;

	if (slash) {
		*slash = '\0';
		(void)rmdir(base);
	}
}

/* The base is locked. */
static int remove_locked(const struct instance *instance, bool owned)
{
	int r = !owned && is_held(instance) ? -EBUSY : remove_dir(instance);

	if (r == 0)
		remove_base(instance);
	return r;
}

int instance_remove(const struct instance *instance, bool owned)
{
	int r;

	(void)flock(instance->base_fd, LOCK_EX);
	r = remove_locked(instance, owned);
	unlock_base(instance->base_fd);
	return r;
}

static int is_name(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Names first: the walk's function may change the directory. */
static int list_names(const char *base, struct dirent ***ret_names)
{
	int r = scandir(base, ret_names, is_name, alphasort);

	return r < 0 ? -errno : r;
}

int instance_each(int (*fn)(const struct instance *instance, void *arg),
		  void *arg)
{
	autofree char *base = base_path();
	struct dirent **names = NULL;
	int n, r = 0;

	if (!base)
		return -ENOMEM;
	n = list_names(base, &names);
	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return log_ret(n, "cannot list '%s': %s", base, strerror(-n));
	for (int i = 0; i < n; i++) {
		struct instance instance;
		int fd = r == 0 ? open_base(base, false) : -1;

		if (fd >= 0) {
			unlock_base(fd);
			if (open_at(fd, base, names[i]->d_name, &instance) ==
			    0) {
				r = fn(&instance, arg);
				instance_done(&instance);
			}
		}
		free(names[i]);
	}
	free(names);
	return r;
}

/* The base is locked: what nobody holds now, nobody will hold any more. */
static void sweep_locked(const struct instance *instance)
{
	struct instance_state state;
	int r;

	if (is_held(instance))
		return;
	r = instance_load(instance, &state);
	/* Only what has never begun: another version may read what is there. */
	if (r == -ENOENT)
		(void)remove_locked(instance, true);
	if (r < 0)
		return;
	if (state.remove) {
		(void)remove_locked(instance, true);
	} else if (state.phase != INSTANCE_EXITED) {
		state.phase = INSTANCE_EXITED;
		state.status = INSTANCE_KILLED;
		(void)unlinkat(instance->dir_fd, "vsock", 0);
		(void)unlinkat(instance->dir_fd, "control", 0);
		(void)instance_save(instance, &state);
	}
	instance_state_done(&state);
}

static int sweep_one(const struct instance *instance, void *arg)
{
	(void)arg;
	(void)flock(instance->base_fd, LOCK_EX);
	sweep_locked(instance);
	unlock_base(instance->base_fd);
	return 0;
}

void instance_sweep(void)
{
	(void)instance_each(sweep_one, NULL);
}

void instance_sweep_one(const char *name, int timeout_ms)
{
	struct instance instance;

	if (instance_open(name, &instance) < 0)
		return;
	if (instance_wait(&instance, timeout_ms) == 0)
		(void)sweep_one(&instance, NULL);
	instance_done(&instance);
}

int instance_open_living(const char *name, struct instance *ret,
			 struct instance_state *ret_state)
{
	struct instance_state state;
	struct instance instance;
	int r = instance_open(name, &instance);

	if (r < 0)
		return r;
	r = instance_load(&instance, &state);
	if (r == -ENOENT)
		log_error("'%s' has not started yet", name);
	if (r == 0 && (!instance_is_alive(&instance) ||
		       (state.phase != INSTANCE_RUNNING &&
			state.phase != INSTANCE_PAUSED))) {
		instance_state_done(&state);
		r = log_ret(-ESRCH, "'%s' does not run", name);
	}
	if (r < 0) {
		instance_done(&instance);
		return r;
	}
	*ret = instance;
	*ret_state = state;
	return 0;
}

int instance_open_running(const char *name, struct instance *ret,
			  struct instance_state *ret_state)
{
	struct instance_state state;
	struct instance instance;
	int r = instance_open_living(name, &instance, &state);

	if (r < 0)
		return r;
	if (state.phase == INSTANCE_PAUSED) {
		instance_state_done(&state);
		instance_done(&instance);
		return log_ret(-EBUSY,
			       "'%s' is paused: 'bulkhead resume %s' first",
			       name, name);
	}
	*ret = instance;
	*ret_state = state;
	return 0;
}

int instance_lock_pause(const struct instance *instance,
			bool (*stops)(void *arg))
{
	/* It is there as long as the instance runs. */
	autofd int fd = openat(instance->dir_fd, INSTANCE_STATUS_FILE,
			       O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	const uint64_t start_ns = util_now_ns();

	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			util_close(&fd);
		else if (util_now_ns() - start_ns > LOCK_NS)
			return log_ret(-EBUSY,
				       "'%s': another command pauses or saves "
				       "it",
				       instance->name);
		else if (stops && stops(NULL))
			return log_ret(-EINTR, "'%s': told to end",
				       instance->name);
		else
			usleep(1000 * WAIT_STEP_MS);
	}
	return fd < 0 ? log_ret(-errno, "'%s/" INSTANCE_STATUS_FILE "': %s",
				instance->path, strerror(errno))
		      : take_fd(&fd);
}

int instance_note_paused(const struct instance *instance, bool paused)
{
	int r = 0;

	if (!paused) {
		if (unlinkat(instance->dir_fd, INSTANCE_PAUSED_FILE, 0) < 0 &&
		    errno != ENOENT)
			r = -errno;
	} else {
		int fd = openat(instance->dir_fd, INSTANCE_PAUSED_FILE,
				O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
				0600);

		r = fd < 0 ? -errno : 0;
		util_close(&fd);
	}
	return r < 0 ? log_ret(r, "'%s/" INSTANCE_PAUSED_FILE "': %s",
			       instance->path, strerror(-r))
		     : 0;
}
