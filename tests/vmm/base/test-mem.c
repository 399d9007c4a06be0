/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: layout, and that no address gets past mem_at(). */
#include "vmm/base/mem.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_one_region(void **state)
{
	const struct mem_options none = {0};
	struct mem mem;

	(void)state;
	assert_int_equal(mem_init(&mem, 64 * MIB, &none), 0);
	assert_int_equal(mem.nregions, 1);
	assert_int_equal(mem.region[0].base, 0);
	assert_int_equal((uintptr_t)mem.region[0].host % (2 * MIB), 0);
	assert_non_null(mem_at(&mem, 0, 64 * MIB));
	assert_non_null(mem_at(&mem, 64 * MIB - 1, 1));
	assert_null(mem_at(&mem, 64 * MIB - 1, 2));
	assert_null(mem_at(&mem, 64 * MIB, 1));
	assert_null(mem_at(&mem, 0, 0));
	mem_done(&mem);
}

static void test_hole(void **state)
{
	const struct mem_options none = {0};
	struct mem mem;
	uint8_t byte = 0x5a, back = 0;

	(void)state;
	assert_int_equal(mem_init(&mem, 5 * GIB, &none), 0);
	assert_int_equal(mem.nregions, 2);
	assert_int_equal(mem.region[0].bytes, MEM_LOW_END);
	assert_int_equal(mem.region[1].base, MEM_HIGH_START);
	assert_int_equal(mem.region[0].bytes + mem.region[1].bytes, 5 * GIB);
	assert_null(mem_at(&mem, MEM_LOW_END - 8, 16)); /* into the hole */
	assert_null(mem_at(&mem, MEM_LOW_END, 1));
	assert_null(mem_at(&mem, MEM_HIGH_START - 1, 2));
	assert_int_equal(mem_write(&mem, MEM_HIGH_START + GIB, &byte, 1), 0);
	assert_int_equal(mem_read(&mem, MEM_HIGH_START + GIB, &back, 1), 0);
	assert_int_equal(back, byte);
	assert_int_equal(mem_read(&mem, MEM_HIGH_START + 2 * GIB, &back, 1),
			 -EFAULT);
	mem_done(&mem);
}

static int file_of(const void *data, size_t bytes, off_t size)
{
	const int fd = memfd_create("ram", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(pwrite(fd, data, bytes, 0), bytes);
	return fd;
}

/* It is the file's then, at the same address; what is written is its own. */
static void test_remapped(void **state)
{
	const struct mem_options none = {0};
	char word[8] = "word", back[8] = "";
	uint8_t *host[2];
	struct mem mem;
	int fd;

	(void)state;
	assert_int_equal(mem_init(&mem, 4 * GIB, &none), 0);
	for (unsigned i = 0; i < 2; i++)
		host[i] = mem.region[i].host;
	assert_int_equal(mem_write(&mem, 0, word, sizeof(word)), 0);
	fd = file_of(word, sizeof(word), (off_t)(4 * GIB));
	assert_int_equal(pwrite(fd, "high", 5, (off_t)MEM_LOW_END), 5);
	assert_int_equal(mem_remap(&mem, fd), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_ptr_equal(host[i], mem.region[i].host);
	assert_int_equal(mem_read(&mem, 0, back, sizeof(back)), 0);
	assert_string_equal(back, "word");
	assert_int_equal(mem_read(&mem, MEM_HIGH_START, back, 5), 0);
	assert_string_equal(back, "high");
	assert_int_equal(mem_write(&mem, 0, "mine", 5), 0);
	assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
	assert_string_equal(back, "word");
	mem_done(&mem);
	close(fd);
}

/* No file can be mapped: all is as it was. */
static void test_not_remapped(void **state)
{
	const struct mem_options none = {0};
	struct mem mem;
	int fd = open("/dev/null", O_WRONLY);
	char back[8] = "";

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(mem_init(&mem, 64 * MIB, &none), 0);
	assert_int_equal(mem_write(&mem, MIB, "word", 5), 0);
	assert_true(mem_remap(&mem, fd) < 0);
	assert_int_equal(mem_read(&mem, MIB, back, 5), 0);
	assert_string_equal(back, "word");
	mem_done(&mem);
	close(fd);
}

static void test_wrap(void **state)
{
	const struct mem_options none = {0};
	struct mem mem;

	(void)state;
	assert_int_equal(mem_init(&mem, 64 * MIB, &none), 0);
	assert_null(mem_at(&mem, UINT64_MAX, 2));
	assert_null(mem_at(&mem, 4096, UINT64_MAX));
	assert_null(mem_at(&mem, UINT64_MAX - 4095, 8192));
	mem_done(&mem);
}

static void test_refused_sizes(void **state)
{
	const struct mem_options none = {0};
	const uint64_t bad[] = {0,
				4096,
				32 * MIB - 4096,
				64 * MIB + 1,
				(UINT64_C(1) << 40) + 4096,
				UINT64_MAX};
	struct mem mem;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(mem_init(&mem, bad[i], &none), -EINVAL);
	mem_done(&mem); /* of a failed init */
}

/* Pages of two processes would be copied when the guest writes to them. */
static void test_not_forked(void **state)
{
	const struct mem_options prefault = {.prefault = true};
	unsigned char there;
	struct mem mem;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(mem_init(&mem, 32 * MIB, &prefault), 0);
	pid = fork();
	if (pid == 0)
		_exit(mincore(mem.region[0].host, 4096, &there) == 0 ||
		      errno != ENOMEM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	mem_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_region),
		cmocka_unit_test(test_hole),
		cmocka_unit_test(test_remapped),
		cmocka_unit_test(test_not_remapped),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_refused_sizes),
		cmocka_unit_test(test_not_forked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
