// Asynchronous exports on QuickJS, whose tool knows no asynchronous imports. Runs as a WebAssembly component.

export const tasks = {
  async double(x) {
    const half = await Promise.resolve(x);
    return half + (await Promise.resolve(x));
  },

  async fail() {
    await Promise.resolve();
    throw new Error("this is how it fails");
  },
};
