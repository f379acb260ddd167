/** What the service worker is told of the build that it keeps. */
export interface Build {
  /** changes with any of the files */
  readonly version: string;
  /** addresses of pages, relative to the worker */
  readonly pages: readonly string[];
  /** addresses of all files, pages included, each with the digest of its content as browsers write it */
  readonly files: Readonly<Record<string, string>>;
}
